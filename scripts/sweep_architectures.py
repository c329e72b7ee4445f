"""List what every architecture of timm computes: attention, gates, and attention-like code.

Each is built and run on torch's meta device, where shapes are computed and numbers are not; what
cannot run there runs on the processor. Lines are written as they are found, so a run that was
stopped goes on where it stopped: `make sweep`.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import timm
import torch
from torch import nn

from visattn.adapters import find_adapter
from visattn.coverage import covered
from visattn.images import Size
from visattn.observation.census import Census, census

DEVICES = ("meta", "cpu")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out/sweep/architectures.jsonl"))
    parser.add_argument("--match", default="", help="only architectures whose name contains this")
    parser.add_argument("--summary", action="store_true", help="only summarise --out")
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    known = {line["architecture"] for line in lines(options.out)}
    names = [n for n in timm.list_models() if options.match in n and n not in known]
    if not options.summary:
        with options.out.open("a", encoding="utf-8") as out:
            for number, name in enumerate(names, start=1):
                print(f"{number}/{len(names)} {name}", file=sys.stderr, flush=True)
                out.write(json.dumps(examined(name)) + "\n")
                out.flush()
                gc.collect()
    summarise(line for line in lines(options.out) if options.match in line["architecture"])
    return 0


def lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def examined(name: str) -> dict[str, Any]:
    """Return one line of the list; an architecture that runs nowhere has an error."""
    file = timm.models.model_entrypoint(name).__module__.rpartition(".")[2]
    line: dict[str, Any] = {"architecture": name, "file": file}
    problems = []
    for device in DEVICES:
        try:
            found = counted(name, device)
        except Exception as error:  # noqa: BLE001  any failure is written down
            problems.append(f"{device}: {type(error).__name__}: {error}"[:300])
        else:
            return {**line, **found, "device": device, "problems": problems}
    return {**line, "error": "; ".join(problems)}


def counted(name: str, device: str) -> dict[str, Any]:
    with torch.device(device):
        module: nn.Module = timm.create_model(name).eval()
        size = timm.data.resolve_model_data_config(module)["input_size"]
        found = census(module, torch.zeros(1, *size))
    shapes = {operation.name: operation.shape for operation in found.operations}
    known = covered(find_adapter(module), Size(*size[1:]), shapes)
    parameters = sum(weight.numel() for weight in module.parameters())
    return {**described(found), **asdict(known), "parameters": parameters}


def described(found: Census) -> dict[str, Any]:
    kinds = Counter(
        " ".join(
            word
            for word, said in (
                (operation.axis, True),
                ("fused", operation.fused),
                ("explicit", not operation.fused),
                ("mixed", operation.mixed),
                (f"normalizer={operation.normalizer}", operation.normalizer != "softmax"),
            )
            if said
        )
        for operation in found.operations
    )
    return {
        "operations": len(found.operations),
        "kinds": dict(kinds),
        "gates": dict(Counter(gate.kind for gate in found.gates)),
        "gate_kinds": dict(Counter(kind for gate in found.gates for kind in gate.seen)),
        "missed": [str(missed) for missed in found.missed],
        "others": dict(Counter(other.kind for other in found.others)),
        "unexplained": list(found.unexplained),
        "shapes": sorted({operation.shape for operation in found.operations}),
    }


def summarise(found: Iterable[dict[str, Any]]) -> None:
    families: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in found:
        families[line["file"]].append(line)
    for family, members in sorted(families.items()):
        print(f"{family}: {len(members)} architectures, {together(members)}")
    every = [line for members in families.values() for line in members]
    attending = [line for line in every if line.get("operations")]
    failed = [line["architecture"] for line in every if "error" in line]
    unexplained = [line["architecture"] for line in every if line.get("unexplained")]
    seen_instead = sum(1 for line in every if not line.get("operations") and line.get("others"))
    retried = [
        f"{line['architecture']} ({line['device']})" for line in every if line.get("problems")
    ]
    print(
        f"\n{len(every)} architectures, {len(attending)} with attention operations, {seen_instead} "
        "with attention-like code alone"
    )
    gated = [line for line in every if line.get("gates")]
    lost = [f"{line['architecture']} ({line['missed'][0]})" for line in gated if line["missed"]]
    modules = sum(sum(line["gates"].values()) for line in gated)
    missed = "; ".join(lost) or "none"
    print(f"{len(gated)} architectures with {modules} gate modules; missed: {missed}")
    print(f"could not run on the meta device: {', '.join(retried) or 'none'}")
    print(f"attention classes without anything observed: {', '.join(unexplained) or 'none'}")
    print(f"failed: {', '.join(failed) or 'none'}")
    misfits = [
        f"{line['architecture']} ({line['misfits'][0]})" for line in every if line.get("misfits")
    ]
    print(f"layouts that do not fit: {', '.join(misfits) or 'none'}")
    homeless = [line["architecture"] for line in attending if line.get("family") == "unknown"]
    print(f"attention without an adapter: {', '.join(homeless) or 'none'}")


def together(members: list[dict[str, Any]]) -> str:
    """Say what the members of a family have, and how many have it."""
    counts: Counter[str] = Counter()
    for line in members:
        counts.update(line.get("kinds", {}).keys())
        counts.update(line.get("others", {}).keys())
        counts.update(line.get("gates", {}).keys())
        counts.update(f"unexplained {kind}" for kind in line.get("unexplained", []))
        counts.update(["error"] if "error" in line else [])
    return ", ".join(f"{what} in {count}" for what, count in counts.most_common()) or "neither"


if __name__ == "__main__":
    raise SystemExit(main())
