"""What class activation maps share: which layers are read, and how several become one map."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, ClassVar

import torch
from torch.nn import functional

from visattn.adapters import Adapter, Refusal, Site
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.feature_map import FeatureMap
from visattn.methods.method import Maps, Method
from visattn.observation import AttentionRecord
from visattn.propagation import rules_named

FUSIONS = ("mean", "sum")


@dataclass(frozen=True)
class ActivationMap(Method):
    """Class activation map at the family's default site (`Adapter.cam_site`).

    For convolutional networks that is the feature map that enters the global pool; for plain
    transformers the normalised patch tokens that enter the last attention, because behind the last
    block patch tokens of a class-token model have a gradient of exactly zero. ``layer`` names
    another module whose output is taken instead, or several in a list: their raw maps, bilinear on
    the finest grid, are then added or averaged as ``fusion`` says (``mean``, ``sum``). Layers are
    never scaled to equal ranges, which would make noise as loud as signal.
    """

    class_specific: ClassVar[bool] = True
    memory: ClassVar[str] = "C P"
    applies: ClassVar[str] = "CNN stages, tokens of transformers"

    layer: Any = None
    fusion: str = "mean"

    def __post_init__(self) -> None:
        named = [self.layer] if self.layer is None else self.names
        if not named or not all(name is None or isinstance(name, str) for name in named):
            raise UnsupportedMethodError(
                f"layer={self.layer!r}: the dotted name of a module, or a list of names."
            )
        if self.fusion not in FUSIONS:
            raise UnsupportedMethodError(f"fusion={self.fusion!r}: use 'mean' or 'sum'.")

    @property
    def names(self) -> list[Any]:
        """The layers that were asked for by name; none means the family's default site."""
        several = isinstance(self.layer, (list, tuple))
        return list(self.layer) if several else [] if self.layer is None else [self.layer]

    @abstractmethod
    def of(self, record: AttentionRecord, features: FeatureMap) -> Maps:
        """Return the maps of one layer."""

    def sites(self, adapter: Adapter) -> tuple[Site, ...]:
        """Return the sites of the layers."""
        default = adapter.cam_site()
        axes = "channels_first" if isinstance(default, Refusal) else default.axes
        if self.names:
            return tuple(Site(name, "output", axes) for name in self.names)
        return () if isinstance(default, Refusal) else (default,)

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why the family has no site, or None."""
        del size
        default = adapter.cam_site()
        return default.reason if isinstance(default, Refusal) and not self.names else None

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the map of the layer, or of several; raises where a layer cannot carry one."""
        del geometries
        sites = self.sites(record.adapter)
        maps = [self.of(record, FeatureMap.of(record, site, not self.names)) for site in sites]
        found = maps[0] if len(maps) == 1 else fused(maps, self.fusion, record.size)
        found.facts["layer"] = ", ".join(map(str, sites))
        return found


@dataclass(frozen=True)
class GradientMap(ActivationMap):
    """Class activation map made of an activation and the gradient of the score by it.

    ``backward`` names the rules of the backward pass that gives the gradient.
    """

    gradients: ClassVar[bool] = True

    backward: str = "plain"

    def __post_init__(self) -> None:
        super().__post_init__()
        rules_named(self.backward)

    @abstractmethod
    def combine(self, values: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
        """Return (batch, row, col) from activation and gradient (batch, channel, row, col)."""

    def notes(self, values: torch.Tensor, gradients: torch.Tensor) -> list[list[str]]:
        """Return for each image what a reader must know, from the same two."""
        del gradients
        return [[] for _ in values]

    def of(self, record: AttentionRecord, features: FeatureMap) -> Maps:
        """Return the combined maps; raises where the gradient is zero by construction."""
        values, gradients = features.values, features.gradients
        if gradients is None:
            raise UnsupportedMethodError(f"The {features.site} was observed without gradients.")
        if self.names and not gradients.any():
            raise unread(record.adapter, features.site, "its gradient is exactly zero")
        notes = self.notes(values, gradients)
        return Maps(self.combine(values, gradients), features.cell, warnings=notes)


def unread(adapter: Adapter, site: Site, why: str) -> UnsupportedMethodError:
    """Return the error for a layer whose map the score does not read, naming the right layer."""
    default = adapter.cam_site()
    return UnsupportedMethodError(
        f"The score does not depend on the spatial part of the {site}: {why}."
        + ("" if isinstance(default, Refusal) else f" Use the {default}.")
    )


def fused(maps: Sequence[Maps], fusion: str, size: Size) -> Maps:
    """Return the mean or sum of raw maps of several layers, bilinear on the finest grid.

    Raises `UnsupportedMethodError` for layers that do not cover the same part of an input of
    ``size``.
    """
    extents = [_extent(found, size) for found in maps]
    apart = max(abs(a - b) for extent in extents for a, b in zip(extent, extents[0], strict=True))
    if apart > 0.5:
        raise UnsupportedMethodError(
            f"The layers cover {', '.join(f'{h:g} x {w:g}' for h, w in extents)} pixels of the "
            "input, so that their maps cannot be added: name them one by one."
        )
    finest = max(maps, key=lambda found: found.values[0].numel())
    grid = finest.values.shape[1:]
    layers = torch.stack([_resampled(found.values, grid) for found in maps])
    values = layers.mean(dim=0) if fusion == "mean" else layers.sum(dim=0)
    warnings = [
        list(dict.fromkeys(note for notes in parts for note in notes))
        for parts in zip_longest(*(found.warnings for found in maps), fillvalue=())
    ]
    measured = [
        {name: [layer[name] for layer in layers] for name in layers[0]}
        for layers in zip(*(found.measured for found in maps), strict=True)
    ]
    facts = {**maps[0].facts, "fusion": f"{fusion} of raw maps"}
    return Maps(values, finest.cell, warnings=warnings, facts=facts, measured=measured)


def _extent(found: Maps, size: Size) -> tuple[float, float]:
    """Return the height and width that a map covers, in input pixels."""
    if found.cell is None:
        return float(size.height), float(size.width)
    rows, cols = found.values.shape[1:]
    return rows * found.cell[0], cols * found.cell[1]


def _resampled(values: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    if tuple(values.shape[1:]) == tuple(grid):
        return values
    return functional.interpolate(
        values[:, None], size=tuple(grid), mode="bilinear", align_corners=False
    )[:, 0]
