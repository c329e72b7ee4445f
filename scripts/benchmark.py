"""Benchmarks as ratios within one process: `make bench`.

Start-up times are medians of fresh interpreters; everything else is compared with the plain forward
pass of the same model on the same batch, alternating, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

import visattn
from visattn.images import Size
from visattn.observation import observe


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def fresh(*command: str, repeats: int = 7) -> float:
    """Median seconds of a command in a fresh interpreter, less an empty interpreter's."""
    run = [sys.executable, *command]
    empty = [sys.executable, "-c", "pass"]
    times = [
        seconds(lambda: subprocess.run(run, check=True, capture_output=True))
        - seconds(lambda: subprocess.run(empty, check=True))
        for _ in range(repeats)
    ]
    return statistics.median(times)


def ratios(
    plain: Callable[[], object], others: dict[str, Callable[[], object]], repeats: int
) -> dict[str, float]:
    """Median over repeats of each work's time divided by the plain pass next to it."""
    found: dict[str, list[float]] = {name: [] for name in others}
    for work in (plain, *others.values()):
        work()
    for _ in range(repeats):
        for name, work in others.items():
            found[name].append(seconds(work) / seconds(plain))
    return {name: statistics.median(values) for name, values in found.items()}


def model_table(spec: str, size: int | None, batch: int, repeats: int) -> None:
    model = visattn.load_model(spec, image_size=size, weights=weights_for(spec))
    side = model.input_size or Size(224, 224)
    inputs = torch.randn(batch, 3, *side, generator=torch.Generator().manual_seed(0))

    def target(outputs: torch.Tensor) -> torch.Tensor:
        return outputs.amax(dim=1)

    def explained(method: str) -> Callable[[], object]:
        specific = method in ("gae", "gradcam")
        return lambda: visattn.explain(
            model, inputs, method=method, target=target if specific else None, batch_size=batch
        )

    def both_ways() -> object:
        return observe(model.module, inputs, score=target)

    works: dict[str, Callable[[], object]] = {
        "observed forward": lambda: observe(model.module, inputs),
        "attention": explained("attention"),
        "rollout": explained("rollout"),
        "forward + backward": both_ways,
        "gae": explained("gae"),
        "gradcam": explained("gradcam"),
    }
    found = ratios(lambda: model.run(inputs), works, repeats)
    print(f"\n{spec}, {side.height} x {side.width}, batch {batch}: time / plain forward pass")
    for name, ratio in found.items():
        print(f"  {name:<22}{ratio:6.2f}")


def weights_for(spec: str) -> str | None:
    return "pretrained" if spec.startswith("packaged:") else None


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=5)
    repeats = arguments.parse_args().repeats
    print("start-up beyond an empty interpreter, median seconds (aim)")
    print(f"  import visattn        {fresh('-c', 'import visattn'):6.3f} (0.2)")
    print(f"  visattn --help        {fresh('-m', 'visattn', '--help'):6.3f} (0.6)")
    model_table("vit_small_patch16_224", None, 4, repeats)
    model_table("vit_small_patch16_224", 448, 1, repeats)
    model_table("packaged:dinov2_small", 518, 1, repeats)
    model_table("swin_tiny_patch4_window7_224", None, 4, repeats)


if __name__ == "__main__":
    main()
