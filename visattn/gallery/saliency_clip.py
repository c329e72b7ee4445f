"""SaliencyClip: the maps of one model and method over the frames of a clip."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from visattn.atomic import atomic_path
from visattn.errors import ConfigError
from visattn.gallery.smoothing import smoothed
from visattn.geometry import Array, Geometry
from visattn.saliency import CLIP_FORMAT, SaliencyMap, Target

FACTS = ("method", "model", "signed", "provenance")


@dataclass(frozen=True, eq=False)
class SaliencyClip:
    """Raw values over the cells of a grid at every frame, and where that grid lies on the frames.

    Attributes:
        grids: float32 (frame, rows, cols), neither normalised nor smoothed.
        times: float64 (frame), seconds from the beginning of the clip.
        fps: frames per second.
        geometry: the chain from grid to model input to frame, the same for all.
        method: name of the method.
        model: name of the model.
        signed: whether negative values mean evidence against the target.
        target: what was explained in every frame, with its mean probability; None where the maps
            are class-agnostic.
        prediction: the class with the highest mean probability, where that is the target.
        probabilities: float32 (frame), of the target; NaN where there is none.
        silences: for every frame why its map carries no signal, or None.
        smoothing: seconds over which the maps are smoothed when they are drawn; 0 for not.
        warnings: what the maps' own warnings say, and in how many frames.
        remarks: how the clip was read and its class chosen.
        statistics: means of the maps' statistics over the frames that have them.
        provenance: everything needed to compute the first map again.
    """

    grids: Array
    times: npt.NDArray[np.float64]
    fps: float
    geometry: Geometry
    method: str
    model: str
    signed: bool
    target: Target | None
    prediction: Target | None
    probabilities: Array
    silences: tuple[str | None, ...]
    smoothing: float = 0.0
    warnings: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    statistics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.times)

    def __repr__(self) -> str:
        frames, rows, cols = self.grids.shape
        return f"SaliencyClip({self.method} of {self.model}, {frames} frames of {rows} x {cols})"

    @property
    def no_signal(self) -> str | None:
        """Why there is nothing to see in any frame, or None."""
        return self.silences[0] if all(self.silences) else None

    def maps(self, smooth: bool = True) -> list[SaliencyMap]:
        """Return the map of every frame, smoothed over time unless ``smooth`` is false."""
        alive = np.array([why is None for why in self.silences])
        seconds = self.smoothing if smooth else 0.0
        grids = smoothed(self.grids, self.times, seconds, alive)
        return [
            self.still(grid, silence) for grid, silence in zip(grids, self.silences, strict=True)
        ]

    def still(self, grid: Array, silence: str | None) -> SaliencyMap:
        """Return one frame's map, with what all frames share."""
        return SaliencyMap(
            grid=grid,
            geometry=self.geometry,
            method=self.method,
            model=self.model,
            signed=self.signed,
            target=self.target,
            prediction=self.prediction,
            provenance=self.provenance,
            silence=silence,
        )

    def save(self, path: Path) -> None:
        """Write grids, times, geometry and provenance to an ``.npz`` file, complete or not."""
        facts = {
            **{name: getattr(self, name) for name in FACTS},
            "format": CLIP_FORMAT,
            "fps": self.fps,
            "geometry": self.geometry.as_dict(),
            "target": asdict(self.target) if self.target else None,
            "prediction": asdict(self.prediction) if self.prediction else None,
            "silences": self.silences,
            "smoothing": self.smoothing,
            "warnings": self.warnings,
            "remarks": self.remarks,
            "statistics": dict(self.statistics),
        }
        text = np.array(json.dumps(facts, default=_plain))
        arrays: dict[str, Any] = {
            "grids": self.grids,
            "times": self.times,
            "probabilities": self.probabilities,
        }
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, facts=text, **arrays)

    @classmethod
    def load(cls, path: str | Path) -> SaliencyClip:
        """Read maps written by `save`; raises `ConfigError` when the file holds something else."""
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays, facts = dict(stored), json.loads(str(stored["facts"]))
            if facts["format"] == CLIP_FORMAT:
                return cls._from_facts(arrays, facts)
        except Exception as error:  # numpy and zipfile raise anything on damaged bytes
            raise ConfigError(f"{path} does not hold the maps of a clip ({error}).") from error
        raise ConfigError(
            f"{path} has format {facts['format']!r}; this reads {CLIP_FORMAT!r}, and "
            "visattn.SaliencyMap.load reads the map of a photo."
        )

    @classmethod
    def _from_facts(cls, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> SaliencyClip:
        return cls(
            grids=arrays["grids"],
            times=arrays["times"],
            probabilities=arrays["probabilities"],
            geometry=Geometry.from_dict(facts["geometry"]),
            target=Target(**facts["target"]) if facts["target"] else None,
            prediction=Target(**facts["prediction"]) if facts["prediction"] else None,
            silences=tuple(facts["silences"]),
            warnings=tuple(facts["warnings"]),
            remarks=tuple(facts["remarks"]),
            **{name: facts[name] for name in (*FACTS, "fps", "smoothing", "statistics")},
        )


def joined(
    maps: Sequence[SaliencyMap],
    fps: float,
    *,
    predicted: bool = False,
    smoothing: float = 0.0,
    remarks: Sequence[str] = (),
) -> SaliencyClip:
    """Return the maps of consecutive frames, the first at time 0, as one clip.

    ``predicted`` says that their target is the class with the highest mean probability.
    """
    first, targets = maps[0], [each.target for each in maps]
    chances = [
        each.probability if each and each.probability is not None else np.nan for each in targets
    ]
    known = np.isfinite(chances).all()
    mean = float(np.mean(chances)) if known else None
    target = Target(first.target.index, first.target.label, mean) if first.target else None
    silences = tuple(each.no_signal for each in maps)
    return SaliencyClip(
        grids=np.stack([each.grid for each in maps]),
        times=np.arange(len(maps)) / fps,
        fps=fps,
        geometry=first.geometry,
        method=first.method,
        model=first.model,
        signed=first.signed,
        target=target,
        prediction=target if predicted else None,
        probabilities=np.array(chances, np.float32),
        silences=silences,
        smoothing=smoothing,
        warnings=tuple(_counted([each.warnings for each in maps], silences)),
        remarks=tuple(remarks),
        statistics=_means([each.statistics for each in maps]),
        provenance=first.provenance,
    )


def _means(statistics: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    found: dict[str, float | None] = {}
    for name in statistics[0]:
        values = np.array([each.get(name) for each in statistics], dtype=object)
        numbers = [float(each) for each in values if isinstance(each, (int, float, np.number))]
        finite = [each for each in numbers if np.isfinite(each)]
        found[name] = float(np.mean(finite)) if finite else None
    return found


def _counted(warnings: Sequence[Sequence[str]], silences: Sequence[str | None]) -> list[str]:
    """Return each warning once, in the words of the first frame, with the number of its frames."""
    frames = len(warnings)
    first: dict[str, str] = {}
    count: dict[str, int] = {}
    for each in warnings:
        for text in each:
            kind = "".join(letter for letter in text if not letter.isdigit() and letter != ".")
            first.setdefault(kind, text)
            count[kind] = count.get(kind, 0) + 1
    found = [
        text if count[kind] >= frames else f"{text} ({count[kind]} of {frames} frames)"
        for kind, text in first.items()
    ]
    silent = [why for why in silences if why]
    return [
        *found,
        *([f"no signal in {len(silent)} of {frames} frames: {silent[0]}"] if silent else []),
    ]


def _plain(value: Any) -> Any:
    """Return a numpy scalar as Python's, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be stored with a clip: {value!r}")
