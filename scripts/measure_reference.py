"""Score methods on planted evidence with the reference models: does the map lie on the evidence?

Every line of ``--out`` is one map; a second run continues where the first stopped, so that a
method can be measured again by deleting its lines. `scripts/write_reference.py` makes the table.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from measure_methods import EXPENSIVE, GAMMA

import visattn
from visattn.evaluation.planted import PlantedEvidence
from visattn.evaluation.scene import Scene
from visattn.evaluation.scoring import scored
from visattn.images import Size
from visattn.methods import get_method, list_methods
from visattn.models import Model

AUTO = "auto"
# Settings of methods that are worth a line of their own; the others run with their defaults.
VARIANTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "gae, last layer": ("gae", {"start_layer": 3}),
    "gae, libra": ("gae", {"backward": "libra"}),
    "cp_lrp, gamma": ("cp_lrp", GAMMA),
    "cp_lrp, gamma, tokens": ("cp_lrp", {"readout": "tokens", **GAMMA}),
    "attnlrp, gamma, tokens": ("attnlrp", {"readout": "tokens", **GAMMA}),
    "reslrp, gamma 1": ("reslrp", {"gamma_linear": 1.0, "gamma_convolution": 1.0}),
    "reslrp, tokens": ("reslrp", {"readout": "tokens"}),
}


@dataclass(frozen=True)
class Setting:
    """A model and the scenes it is scored on.

    Attributes:
        model: what `visattn.load_model` takes.
        planted: the generator.
        weights: as `visattn.load_model`; a path that may be missing for models that are not
            shipped.
        many: scenes.
        few: scenes for methods of many passes.
    """

    model: str
    planted: PlantedEvidence
    weights: str | Path = "pretrained"
    many: int = 64
    few: int = 24
    known: Mapping[str, Any] = field(default_factory=dict)

    def scenes(self, model: Model) -> list[Scene]:
        """Return the first scenes whose class the model gets right: others have no known evidence.

        Of a scene with several classes all must have the highest scores.
        """
        found: list[Scene] = []
        index = 0
        while len(found) < self.many:
            scene = self.planted.scene(index)
            prepared = model.prepare(visattn.images.load_image(scene.image))
            best = model.run(model.stack([prepared]))[0].topk(len(scene.labels)).indices
            if set(best.tolist()) == set(scene.labels):
                found.append(scene)
            index += 1
        return found


WATERMARK = Path("out") / "reference" / "cbam-watermark.safetensors"
SETTINGS: Mapping[str, Setting] = {
    "vit": Setting("reference:vit", PlantedEvidence()),
    "cbam": Setting("reference:cbam", PlantedEvidence()),
    "vit, two objects": Setting("reference:vit", PlantedEvidence(objects=2), many=40, few=16),
    "cbam, two objects": Setting("reference:cbam", PlantedEvidence(objects=2), many=40, few=16),
    "cbam, watermark": Setting(
        "reference:cbam", PlantedEvidence(watermark=True), WATERMARK, many=40, few=16
    ),
}


def configurations() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return method and options by label."""
    names = {name: (name, dict(EXPENSIVE.get(name, {}))) for name in list_methods()}
    return {AUTO: (AUTO, {}), **names, **VARIANTS}


def rows(
    name: str, label: str, model: Model, scenes: list[Scene], method: str, options: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    start = time.perf_counter()
    scores = list(scored(model, scenes, method, **options))
    seconds = (time.perf_counter() - start) / len(scores)
    for score in scores:
        metrics = {key: [found.value, found.chance] for key, found in score.metrics.items()}
        yield {
            "setting": name,
            "label": label,
            "scene": score.scene,
            "class": score.label,
            "seconds": seconds,
            **metrics,
        }


def measure(name: str, setting: Setting, out: Path, chosen: list[str]) -> None:
    done = set()
    if out.exists():
        lines = map(json.loads, out.read_text(encoding="utf-8").splitlines())
        done = {(line["setting"], line["label"]) for line in lines}
    model = visattn.load_model(setting.model, weights=setting.weights)
    scenes = setting.scenes(model)
    side = Size(setting.planted.size, setting.planted.size)
    for label, (method, options) in configurations().items():
        if (name, label) in done or (chosen and label not in chosen):
            continue
        if method != AUTO:
            refusal = get_method(method).create(method, options).refusal(model.adapter, side)
            if refusal is not None:
                print(f"{name} {label}: refused", flush=True)
                continue
        count = setting.few if method in EXPENSIVE else setting.many
        try:
            found = list(rows(name, label, model, scenes[:count], method, options))
        except visattn.VisattnError as error:
            print(f"{name} {label}: {error}", flush=True)
            continue
        with out.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in found)
        print(f"{name} {label}: {len(found)} maps", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setting", choices=SETTINGS, action="append")
    parser.add_argument("--label", action="append", default=[], help="only these, else all")
    parser.add_argument("--out", type=Path, default=Path("out/reference/values.jsonl"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for name in arguments.setting or SETTINGS:
        setting = SETTINGS[name]
        if setting.weights != "pretrained" and not Path(setting.weights).is_file():
            print(f"{name}: no weights {setting.weights}; see scripts/train_reference_models.py")
            continue
        measure(name, setting, arguments.out, arguments.label)


if __name__ == "__main__":
    main()
