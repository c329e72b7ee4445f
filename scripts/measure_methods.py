"""Measure methods: grid pointing game on mosaics of the sample photos, deletion and insertion.

Every line of ``--out`` is one value; a second run continues where the first stopped, so that a
method can be measured again by deleting its lines. `scripts/write_evidence.py` makes the table.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from evidence_curves import deletion, insertion, units
from torch.nn import functional

import visattn
from visattn.evaluation.mosaic import Mosaic, grid_pointing, mosaics, pointed, tiles_of
from visattn.images import Image, Size, load_image
from visattn.methods import get_method, list_methods
from visattn.models import Model
from visattn.saliency import SaliencyMap

SIDE = 2
STEPS = 16
PHOTOS = ("astronaut", "cameraman", "cat", "coffee", "retina", "rocket")
CONFIDENT = 0.25  # below that the classifier does not know what the photo alone shows

# Methods of many passes: fewer of them than by default, on fewer mosaics and on whole photos only.
EXPENSIVE: Mapping[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 20},
    "smoothgrad": {"samples": 10},
    "gradient_shap": {"samples": 10},
    "occlusion": {},
    "kernel_shap": {"samples": 200},
    "lime": {"samples": 200},
    "rise": {"masks": 250},
    "vit_cx": {},
    "scorecam": {"channels": 128},
    "ablationcam": {},
    "bth": {},
    "btt": {},
    "tam": {},
    "flow": {},
}
# So many passes for one map that one mosaic must do, without deletion and insertion.
LONG = ("kernel_shap", "lime", "occlusion", "rise", "scorecam", "vit_cx", "flow")
GAMMA = {"gamma_linear": 0.25, "gamma_convolution": 0.25}
VARIANTS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "gae, last layer": ("gae", {"start_layer": 11}),
    "gae, libra": ("gae", {"backward": "libra"}),
    "attcat, libra": ("attcat", {"backward": "libra"}),
    "gradcam, libra": ("gradcam", {"backward": "libra"}),
    "hirescam, libra": ("hirescam", {"backward": "libra"}),
    "cp_lrp, gamma, tokens": ("cp_lrp", {"readout": "tokens", **GAMMA}),
    "cp_lrp, gamma": ("cp_lrp", GAMMA),
    "cp_lrp, tokens": ("cp_lrp", {"readout": "tokens"}),
    "attnlrp, gamma, tokens": ("attnlrp", {"readout": "tokens", **GAMMA}),
    "attnlrp, gamma": ("attnlrp", GAMMA),
    "reslrp, gamma, tokens": ("reslrp", {"readout": "tokens", **GAMMA}),
    "reslrp, gamma 1": ("reslrp", {"gamma_linear": 1.0}),
    "reslrp, gamma 1, tokens": ("reslrp", {"gamma_linear": 1.0, "readout": "tokens"}),
    "reslrp, convolution 1": ("reslrp", {"gamma_convolution": 1.0}),
    "reslrp, tokens": ("reslrp", {"readout": "tokens"}),
    "libragrad, pixels": ("libragrad", {"readout": "pixels"}),
}


@dataclass(frozen=True)
class Setting:
    """One model with the sizes it is measured at.

    Attributes:
        model: what `visattn.load_model` takes.
        tile: side of a tile in pixels; the mosaic is twice as large.
        unit: side of what is removed at once in deletion and insertion.
        many: mosaics, four maps each.
        few: mosaics for methods of many passes, which come last.
    """

    model: str
    tile: int
    unit: int
    many: int
    few: int


SETTINGS = {
    "dinov2": Setting("packaged:dinov2_small", 112, 14, 8, 2),
    "lite0": Setting("packaged:efficientnet_lite0", 224, 16, 6, 2),
}


@dataclass(frozen=True, eq=False)
class Bench:
    """A model at two sizes, and the sample photos as it sees them."""

    setting: Setting
    alone: Model
    mosaic: Model
    names: tuple[str, ...] = field(default=())

    @classmethod
    def load(cls, setting: Setting, photos: Path) -> Bench:
        alone = visattn.load_model(setting.model, image_size=setting.tile)
        whole = visattn.load_model(setting.model, image_size=SIDE * setting.tile)
        known = cls(setting, alone, whole, tuple(str(photos / f"{n}.jpg") for n in PHOTOS))
        if not alone.has_classifier:
            return known
        sure = [n for n in known.names if known.probability(n) >= CONFIDENT]
        return cls(setting, alone, whole, tuple(sure))

    def probability(self, name: str) -> float:
        outputs = self.alone.run(self.alone.stack([self.alone.prepare(load_image(name))]))
        return float(outputs.softmax(dim=1).max())

    def targets(self, tiles: torch.Tensor) -> list[Any]:
        """Return what each tile alone is: its class, or its embedding."""
        outputs = self.alone.run(tiles)
        if self.alone.has_classifier:
            return [int(i) for i in outputs.argmax(dim=1)]
        return [visattn.SimilarityTarget(e) for e in outputs]

    def game(self, label: str, method: str, options: dict[str, Any]) -> Iterator[dict[str, Any]]:
        tiles = tiles_of([self.alone.prepare(load_image(n)).tensor for n in self.names])
        targets = self.targets(tiles)
        for place, each in enumerate(self.mosaics(method)):
            for tile, photo in enumerate(each.photos):
                found, seconds = self.explain(
                    each.compose(tiles)[None], method, targets[photo], options
                )
                yield {
                    "test": "mosaic",
                    "label": label,
                    "image": place,
                    "tile": tile,
                    "grid_pointing": grid_pointing(found, tile, SIDE),
                    "pointing": pointed(found, tile, SIDE),
                    "seconds": seconds,
                }

    def mosaics(self, method: str) -> list[Mosaic]:
        """Return one order of every choice of photos; all are drawn anew where there are few."""
        seeds = range(1 if len(self.names) > SIDE**2 else 12)
        every = [m for seed in seeds for m in mosaics(len(self.names), SIDE, seed)]
        few = 1 if method in LONG else self.setting.few
        return every[: few if method in EXPENSIVE else self.setting.many]

    def perturbed(
        self, label: str, method: str, options: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        for name in self.names:
            views = (load_image(name), centre(load_image(name)))
            for crop, image in enumerate(views[:1] if method in EXPENSIVE else views):
                prepared = self.mosaic.prepare(image)
                tensor = prepared.tensor.to(self.mosaic.dtype)
                target = None if self.mosaic.has_classifier else "embedding"
                found, _ = self.explain(tensor[None], method, target, options)
                order = units(found, self.setting.unit)
                arguments = (self.faith(tensor), tensor, order, self.setting.unit, STEPS)
                yield {
                    "test": "perturbation",
                    "label": label,
                    "image": PHOTOS.index(Path(name).stem),
                    "tile": crop,
                    "deletion": deletion(*arguments).area,
                    "insertion": insertion(*arguments).area,
                }

    def faith(self, tensor: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """Return the probability of the predicted class, or the cosine to the photo's embedding."""
        outputs = self.mosaic.run(tensor[None])
        if self.mosaic.has_classifier:
            index = int(outputs.argmax())
            return lambda batch: self.mosaic.run(batch).softmax(dim=1)[:, index]
        return lambda batch: functional.cosine_similarity(self.mosaic.run(batch), outputs)

    def explain(
        self, inputs: torch.Tensor, method: str, target: Any, options: dict[str, Any]
    ) -> tuple[SaliencyMap, float]:
        start = time.perf_counter()
        wanted = target if get_method(method).class_specific else None
        (found,) = visattn.explain(self.mosaic, inputs, method=method, target=wanted, **options)
        return found, time.perf_counter() - start

    def applies(self, method: str, options: dict[str, Any]) -> bool:
        side = SIDE * self.setting.tile
        built = get_method(method).create(method, options)
        return built.refusal(self.mosaic.adapter, Size(side, side)) is None


def centre(image: Image) -> Image:
    """Return the middle of a photo, 60 % of its height and width."""
    height, width = image.pixels.shape[:2]
    top, left = round(0.2 * height), round(0.2 * width)
    return load_image(image.pixels[top : height - top, left : width - left].copy())


def configurations(chosen: list[str]) -> dict[str, tuple[str, dict[str, Any]]]:
    """Return method and options by label: every method, and variants that are worth a line."""
    found = {name: (name, dict(EXPENSIVE.get(name, {}))) for name in list_methods()}
    found |= VARIANTS
    cost = {label: (method in EXPENSIVE) + (method in LONG) for label, (method, _) in found.items()}
    found = dict(sorted(found.items(), key=lambda item: cost[item[0]]))
    unknown = [label for label in chosen if label not in found]
    if unknown:
        raise SystemExit(f"{', '.join(unknown)}: not among {', '.join(found)}")
    return {label: found[label] for label in (chosen or found)}


def measure(bench: Bench, setting: str, out: Path, chosen: list[str]) -> None:
    done = set()
    if out.exists():
        lines = map(json.loads, out.read_text(encoding="utf-8").splitlines())
        done = {(line["setting"], line["test"], line["label"]) for line in lines}
    for label, (method, options) in configurations(chosen).items():
        for test, run in (("mosaic", bench.game), ("perturbation", bench.perturbed)):
            if (setting, test, label) in done or (test == "perturbation" and method in LONG):
                continue
            if not bench.applies(method, options):
                print(f"{setting} {test} {label}: refused", flush=True)
                continue
            # Written at once when complete: what is in the file is whole.
            rows = [{"setting": setting, **row} for row in run(label, method, options)]
            with out.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(row) + "\n" for row in rows)
            print(f"{setting} {test} {label}: {len(rows)} maps", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--setting", choices=SETTINGS, action="append")
    parser.add_argument("--label", action="append", default=[], help="only these, else all")
    parser.add_argument("--photos", type=Path, default=Path("data/photos"))
    parser.add_argument("--out", type=Path, default=Path("out/evidence/values.jsonl"))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    for setting in arguments.setting or SETTINGS:
        bench = Bench.load(SETTINGS[setting], arguments.photos)
        measure(bench, setting, arguments.out, arguments.label)


if __name__ == "__main__":
    main()
