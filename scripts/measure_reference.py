"""Score methods on planted evidence with the reference models: does the map lie on the evidence?

Every line of ``--out`` is one map, or says why a method has none; a second run continues where the
first stopped. Lines of other weights or other scenes are dropped. `scripts/write_reference.py`
makes the tables.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from measure_methods import EXPENSIVE, GAMMA

import visattn
from visattn.evaluation.datasets.planted import is_right
from visattn.evaluation.planted import PlantedEvidence
from visattn.evaluation.scene import Scene
from visattn.evaluation.scoring import scored
from visattn.images import Size, load_image
from visattn.methods import get_method, list_methods
from visattn.models import Model

AUTO = "auto"
TRIED = 10  # scenes for each that is wanted
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
        for scene in self.planted.scenes(TRIED * self.many):
            if is_right(model, model.prepare(load_image(scene.image)), scene):
                found.append(scene)
            if len(found) == self.many:
                return found
        raise SystemExit(f"{self.model} is right on {len(found)} of {TRIED * self.many} scenes.")


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
    model: Model, scenes: list[Scene], method: str, options: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    start = time.perf_counter()
    scores = list(scored(model, scenes, method, **options))
    seconds = (time.perf_counter() - start) / len(scores)
    for score in scores:
        metrics = {key: [found.value, found.chance] for key, found in score.metrics.items()}
        yield {"scene": score.scene, "class": score.label, "seconds": seconds, **metrics}


def measure(name: str, setting: Setting, out: Path, chosen: list[str]) -> None:
    model = visattn.load_model(setting.model, weights=setting.weights)
    scenes = setting.scenes(model)
    stamp = fingerprint(model, scenes)
    done = measured(name, stamp, out)
    side = Size(setting.planted.size, setting.planted.size)
    for label, (method, options) in configurations().items():
        if label in done or (chosen and label not in chosen):
            continue
        count = setting.few if method in EXPENSIVE else setting.many
        refusal = None
        if method != AUTO:
            refusal = get_method(method).create(method, options).refusal(model.adapter, side)
        try:
            found = [] if refusal else list(rows(model, scenes[:count], method, options))
        except visattn.VisattnError as error:
            refusal, found = str(error), []
        found = found or [{"reason": refusal}]
        common = {"setting": name, "label": label, "stamp": stamp}
        with out.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps({**common, **row}) + "\n" for row in found)
        print(f"{name} {label}: {refusal or f'{len(found)} maps'}", flush=True)


def fingerprint(model: Model, scenes: list[Scene]) -> str:
    """Return what changes when the weights or the scenes change."""
    state = hashlib.sha256(model.weights_sha256.encode())
    for scene in scenes:
        state.update(scene.image.tobytes())
    return state.hexdigest()[:16]


def measured(name: str, stamp: str, out: Path) -> set[str]:
    """Return the labels that are done in a setting, after dropping lines of another stamp."""
    if not out.exists():
        return set()
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    kept = [line for line in lines if line["setting"] != name or line["stamp"] == stamp]
    out.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    return {line["label"] for line in kept if line["setting"] == name}


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
