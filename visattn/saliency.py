"""SaliencyMap: what every method returns and every picture is drawn from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from visattn import statistics
from visattn.atomic import atomic_path
from visattn.channels import ChannelRanking
from visattn.errors import ConfigError, ImageError
from visattn.geometry import Array, Geometry
from visattn.images import Image, load_image
from visattn.normalization import SYMMETRIC, limits

if TYPE_CHECKING:
    from PIL import Image as PillowImage

FORMAT = 1
CLIP_FORMAT = "clip 1"


@dataclass(frozen=True)
class Target:
    """What a class-specific map explains.

    Attributes:
        index: class index, or None where the score is not a class.
        label: class name, or a description of the score.
        probability: softmax (sigmoid for one output) probability, or None without a classifier.
    """

    index: int | None
    label: str
    probability: float | None = None


@dataclass(frozen=True, eq=False)
class SaliencyMap:
    """Raw values over the cells of a grid, and where that grid lies on a photograph.

    Attributes:
        grid: float32 (rows, cols), never normalised.
        geometry: the chain from grid to model input to original photo.
        method: name of the method.
        model: name of the model.
        signed: whether negative values mean evidence against the target.
        target: what was explained, or None for a class-agnostic map.
        prediction: the model's own first choice, or None without a classifier.
        warnings: what a reader of the map must know.
        statistics: numbers about the map (entropy, Gini coefficient, ...).
        provenance: everything needed to compute the map again.
        photo: the photograph, where it was handed over in memory.
        silence: why the map carries no signal though its cells differ, where its method says so.
        channels: the ranking of channels behind the map, where its method makes one.
    """

    grid: Array
    geometry: Geometry
    method: str
    model: str
    signed: bool = False
    target: Target | None = None
    prediction: Target | None = None
    warnings: tuple[str, ...] = ()
    statistics: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    photo: Image | None = None
    silence: str | None = None
    channels: ChannelRanking | None = None

    def __post_init__(self) -> None:
        grid = np.array(self.grid, dtype=np.float32)
        if grid.shape != tuple(self.geometry.grid):
            raise ValueError(
                f"grid of shape {grid.shape} does not fit a geometry of {self.geometry.grid}"
            )
        grid.flags.writeable = False
        object.__setattr__(self, "grid", grid)

    def __repr__(self) -> str:
        rows, cols = self.grid.shape
        explained = f", target={self.target.label!r}" if self.target else ""
        return f"SaliencyMap({self.method} of {self.model}, {rows} x {cols}{explained})"

    @property
    def no_signal(self) -> str | None:
        """Why there is nothing to see, or None."""
        return self.silence or statistics.no_signal(self.grid)

    @property
    def default_normalization(self) -> str:
        """``symmetric`` for signed maps, else ``minmax``."""
        return "symmetric" if self.signed else "minmax"

    def on_input(self, interpolation: str = "bilinear") -> Array:
        """Return the map on the model's input, float32 (H, W)."""
        return self.geometry.on_input(self.grid, interpolation)

    def on_image(self, interpolation: str = "bilinear") -> Array:
        """Return the map on the upright photo, float32 (H, W), NaN where the model saw nothing."""
        return self.geometry.on_original(self.grid, interpolation)

    def normalized(self, name: str | None = None) -> Array:
        """Return the grid scaled to 0..1 (symmetric ones: -1..1) by a named normalisation.

        A map without signal comes back as zeros. See `visattn.normalization.limits` for names.
        """
        name = name or self.default_normalization
        if self.no_signal:
            return np.zeros_like(self.grid)
        scaled = limits(self.grid, name).scale(self.grid)
        return scaled * 2 - 1 if name in SYMMETRIC else scaled

    def photograph(self) -> Image:
        """Return the photo the map belongs to, read again from its file where it has one.

        Raises `ImageError` when the file is gone or its content has changed.
        """
        if self.photo is not None:
            return self.photo
        source = self.provenance.get("image", {})
        if not source.get("path"):
            raise ImageError("This map does not know its photo; pass one: overlay(photo=...).")
        image = load_image(source["path"])
        if image.sha256 != source.get("sha256"):
            raise ImageError(f"{source['path']} has changed since the map was computed.")
        return image

    def overlay(self, photo: Any = None, **style: Any) -> PillowImage.Image:
        """Return the map drawn over its photo, RGB, the size of the photo.

        ``style`` takes the fields of `visattn.overlay.Style` (colormap, opacity, contours, ...);
        colour bar and caption, when asked for, are added outside the photo.
        """
        from visattn.overlay import Style, draw

        image = self.photograph() if photo is None else load_image(photo)
        return draw(self, image, Style.create(**style))

    def _repr_png_(self) -> bytes:
        """Show the map over its photo, for notebooks."""
        from visattn.overlay.notebook import png

        return png(self)

    def _repr_html_(self) -> str:
        """Show the map over its photo with its caption as text, for notebooks."""
        from visattn.overlay.notebook import html

        return html(self)

    def save(self, path: str | Path) -> Path:
        """Write grid, geometry and provenance to an ``.npz`` file, complete or not at all.

        The file knows its photo by an absolute path, and not from one working directory alone.
        """
        path = Path(path)
        if path.suffix != ".npz":
            raise ConfigError(f"A map is saved as .npz, not as {path.name!r}.")
        facts = {
            "format": FORMAT,
            "geometry": self.geometry.as_dict(),
            "method": self.method,
            "model": self.model,
            "signed": self.signed,
            "target": asdict(self.target) if self.target else None,
            "prediction": asdict(self.prediction) if self.prediction else None,
            "warnings": list(self.warnings),
            "statistics": dict(self.statistics),
            "provenance": _anchored(self.provenance),
            "silence": self.silence,
            "channels": self.channels.heading() if self.channels else None,
        }
        arrays: dict[str, Any] = self.channels.arrays() if self.channels else {}
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file, grid=self.grid, facts=np.array(json.dumps(facts, default=_number)), **arrays
            )
        return path

    @classmethod
    def load(cls, path: str | Path) -> SaliencyMap:
        """Read a map written by `save`; raises `ConfigError` when the file is not one."""
        try:
            with Path(path).open("rb") as file, np.load(file, allow_pickle=False) as stored:
                arrays, facts = dict(stored), json.loads(str(stored["facts"]))
            if facts["format"] == FORMAT:
                return cls._from_facts(arrays, facts)
        except Exception as error:  # numpy and zipfile raise anything on damaged bytes
            raise ConfigError(f"{path} is not a saved map ({error}).") from error
        if facts["format"] == CLIP_FORMAT:
            raise ConfigError(
                f"{path} holds the maps of a clip, one for every frame: "
                "visattn.gallery.SaliencyClip.load reads it."
            )
        raise ConfigError(f"{path} has format {facts['format']}; this version reads {FORMAT}.")

    @classmethod
    def _from_facts(cls, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> SaliencyMap:
        ranked = facts.get("channels")  # files of versions before 0.4 know neither this nor silence
        return cls(
            grid=arrays["grid"],
            geometry=Geometry.from_dict(facts["geometry"]),
            method=facts["method"],
            model=facts["model"],
            signed=facts["signed"],
            target=Target(**facts["target"]) if facts["target"] else None,
            prediction=Target(**facts["prediction"]) if facts["prediction"] else None,
            warnings=tuple(facts["warnings"]),
            statistics=facts["statistics"],
            provenance=facts["provenance"],
            silence=facts.get("silence"),
            channels=ChannelRanking.stored(ranked, arrays) if ranked else None,
        )


def _anchored(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return a provenance whose photo has an absolute path."""
    image = provenance.get("image") or {}
    if not image.get("path"):
        return dict(provenance)
    return {**provenance, "image": {**image, "path": str(Path(image["path"]).absolute())}}


def _number(value: Any) -> Any:
    """Return a numpy scalar as Python's, for JSON."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} cannot be stored with a map: {value!r}")
