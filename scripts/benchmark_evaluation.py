"""What faithfulness metrics take over the forward passes they need, what token drop saves, and
what memory an evaluation of few and of many samples takes.

CPU seconds of one process and one thread, so that a busy machine matters little; bare passes of the
same module at the same batch size are timed before and after each metric. Random weights.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

import visattn
from visattn.evaluation import evaluate
from visattn.evaluation.bench import Bench, explained
from visattn.evaluation.case import Case
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics import METRICS, Metric
from visattn.evaluation.sample import Sample
from visattn.evaluation.trial import Trial
from visattn.models import Model
from visattn.saliency import SaliencyMap
from visattn.targets import resolve

SAMPLES = (50, 400)
PEAKED = ("energy_pointing", "srg:steps=4")
STEPPED = ("deletion", "insertion", "aopc", "aopc_lerf", "abpc", "srg")
OTHERS: dict[str, dict[str, Any]] = {
    "positive_perturbation": {"fill": "mean"},
    "negative_perturbation": {"fill": "mean"},
    "comprehensiveness": {},
    "sufficiency": {},
    "saco": {},
    "infidelity": {"samples": 10},
    "completeness": {},
    "road": {"fill": "mean"},
}


def cpu(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def cases(model: Model, method: str, images: int) -> list[Case]:
    """Return fresh cases, of which no metric has asked anything yet."""
    draws = torch.Generator().manual_seed(0)
    assert model.input_size is not None  # noqa: S101  a named model has one
    tensors = [torch.randn(3, *model.input_size, generator=draws) for _ in range(images)]
    prepared = [model.prepare_tensor(tensor) for tensor in tensors]
    trial, made = Trial(method, method), []
    maps = explained(model, prepared, trial, [None] * images)
    for number, (item, found) in enumerate(zip(prepared, maps, strict=True)):
        if not isinstance(found, SaliencyMap):
            raise found
        output = model.run(model.stack([item]))
        (resolved,) = resolve([None], model, output)
        made.append(Case(Sample(str(number), item, label=0), trial, found, output, resolved))
    return made


def bare(model: Model, passes: int, size: int) -> float:
    """Return the CPU seconds of so many inputs through the module, nothing around it."""
    assert model.input_size is not None  # noqa: S101
    batch = torch.randn(size, 3, *model.input_size)
    full, rest = divmod(passes, size)
    with torch.no_grad():
        model.module.eval()
        return cpu(lambda: [model.module(batch[: size if i < full else rest])
                            for i in range(full + (rest > 0))])  # fmt: skip


def timed(model: Model, metric: Metric, known: Sequence[Case], size: int) -> tuple[int, float]:
    """Return forward passes and CPU seconds of a metric; stops where a case has no value."""
    bench = Bench(model, size)
    verdicts: list[Any] = []
    seconds = cpu(lambda: verdicts.extend(metric.measure(bench, known)))
    if not all(isinstance(each, Measured) for each in verdicts):
        raise SystemExit(f"excluded: {verdicts}")
    return bench.passes, seconds


def line(model: Model, name: str, options: dict[str, Any], arguments: argparse.Namespace) -> str:
    method = "input_x_gradient" if name in ("infidelity", "completeness") else "random"
    known, metric = cases(model, method, arguments.images), METRICS.get(name).create(name, options)
    before = bare(model, metric.cost().forward * arguments.images, arguments.batch)
    passes, seconds = timed(model, metric, known, arguments.batch)
    after = bare(model, passes, arguments.batch)
    ratio = seconds / ((before + after) / 2)
    return f"  {metric.label(name):<44}{passes:>7}{seconds:>9.2f}{ratio:>14.3f}"


def dropped(model: Model, arguments: argparse.Namespace) -> str:
    """Return how much cheaper curves are on kept tokens than on whole inputs, alternating."""
    found = []
    for _ in range(arguments.repeats):
        pair = [
            timed(
                model,
                METRICS.get("srg").create("srg", {"fill": fill, "steps": arguments.steps}),
                cases(model, "random", arguments.images),
                arguments.batch,
            )[1]
            for fill in ("tokens", "mean")
        ]
        found.append(pair[0] / pair[1])
    return ", ".join(f"{ratio:.3f}" for ratio in sorted(found))


def peak(samples: int) -> None:
    """Print the peak memory of this process, in MB, after an evaluation of so many samples."""
    model = visattn.load_model("reference:vit")
    evaluate(model, f"planted?count={samples}", ["auto", "rollout"], PEAKED)
    print(f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}")


def peaks() -> str:
    """Return the peak memory of fresh processes for few and for many samples."""
    found = []
    for samples in SAMPLES:
        command = [sys.executable, __file__, "--peak", str(samples)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(f"{done.stdout.strip()} MB for {samples} samples")
    return ", ".join(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vit_small_patch16_224")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--metric", action="append", default=[], help="only these, else all")
    parser.add_argument("--peak", type=int, help="only the peak memory of so many samples")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peak:
        peak(arguments.peak)
        return
    torch.manual_seed(0)
    model = visattn.load_model(arguments.model, weights=None)
    bare(model, arguments.batch, arguments.batch)
    print(f"{arguments.model}, {arguments.images} images, batches of {arguments.batch}")
    print(f"\n  {'metric':<44}{'passes':>7}{'seconds':>9}{'x bare passes':>14}")
    stepped = {name: {"steps": arguments.steps, "fill": "mean"} for name in STEPPED}
    slow = [("insertion", {"steps": arguments.steps}), ("road", {})]
    for name, options in (*stepped.items(), *OTHERS.items(), *slow):
        if name in (arguments.metric or [name]):
            print(line(model, name, options, arguments), flush=True)
    print(f"\n  srg on kept tokens / on whole inputs: {dropped(model, arguments)}")
    print(f"  peak memory: {peaks()}")


if __name__ == "__main__":
    main()
