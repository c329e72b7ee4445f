"""Tiling: how a model's photos become the tiles of a mosaic, and what it says of one alone."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from visattn.adapters import Refusal, chain_of
from visattn.errors import ConfigError, VisattnError
from visattn.images import Image, Size
from visattn.models import Model, Preprocessing
from visattn.models.preprocessing import CROPS, RESIZES

# What models of all libraries raise for an input of a size that they do not take.
REFUSALS = (AssertionError, RuntimeError, ValueError, VisattnError)


@dataclass(frozen=True, eq=False)
class Tiling:
    """A model with mosaics of ``side`` x ``side`` tiles.

    Tiles are photos through the model's own preprocessing at the tile's size: every resize and crop
    is scaled by the same factor. What a photo alone shows is decided on the tile where the model
    takes inputs of its size, as convolutional networks do; a model of one fixed size decides on the
    photo at that size.

    Attributes:
        model: the model.
        side: tiles in a row.
        tile: height and width of a tile in pixels.
        smaller: the preprocessing at the tile's size.
        takes_tile: whether the model takes a tile alone.
    """

    model: Model
    side: int
    tile: Size
    smaller: Preprocessing
    takes_tile: bool

    @classmethod
    def of(cls, model: Model, side: int, tile: int | None = None) -> Tiling:
        """Return the tiling of the model's own input, or of inputs of ``side`` tiles of a size.

        Raises `ConfigError` for a model whose input size or preprocessing is not known, tiles that
        do not fill the input or cut patches, and mosaics that the model does not take.
        """
        own, steps = model.input_size, model.preprocessing
        if own is None or steps is None:
            raise ConfigError(
                f"{model.name} has no input size or preprocessing of its own, so photos cannot "
                "become tiles: load_model(..., image_size=..., transform=...)."
            )
        if tile is None and (own.height % side or own.width % side):
            raise ConfigError(
                f"{own.height} x {own.width} pixels are not {side} x {side} equal tiles: give "
                f"tile={own.height // side}, or load the model at a multiple of {side}."
            )
        size = Size(own.height // side, own.width // side) if tile is None else Size(tile, tile)
        whole = Size(size.height * side, size.width * side)
        if whole != own and not takes(model, whole):
            raise ConfigError(
                f"{model.name} takes {own.height} x {own.width} and no mosaic of {side} x {side} "
                f"tiles of {tile} pixels: load it with image_size={whole.height}, or leave out "
                "tile."
            )
        _require_whole_patches(model, side, size)
        return cls(model, side, size, scaled(steps, own, size), takes(model, size))

    def pixels(self, image: Image) -> torch.Tensor:
        """Return the tile (channel, row, col) of a photo; raises `ConfigError` for another size."""
        tensor = self.smaller(image).tensor
        if tuple(tensor.shape[-2:]) != tuple(self.tile):
            raise ConfigError(
                f"The preprocessing of {self.model.name} makes tiles of {tuple(tensor.shape[-2:])} "
                f"pixels, not of {tuple(self.tile)}: its inputs have no fixed size."
            )
        return tensor

    def alone(self, image: Image) -> torch.Tensor:
        """Return the model's outputs (1, ...) for a photo alone."""
        whole = self.pixels(image) if self.takes_tile else self.model.prepare(image).tensor
        return self.model.run(whole[None].to(self.model.device, self.model.dtype))


def _require_whole_patches(model: Model, side: int, tile: Size) -> None:
    """Raise where a patch would lie on two tiles, so that no map could tell them apart."""
    chain = chain_of(model.adapter, Size(tile.height * side, tile.width * side))
    if isinstance(chain, Refusal):
        return
    cell = chain.layout.cell
    if any(extent % pixels for extent, pixels in zip(tile, cell, strict=True)):
        whole = max(1, round(tile.height / cell[0])) * round(cell[0])
        raise ConfigError(
            f"Tiles of {tile.height} x {tile.width} pixels are not whole patches of {cell[0]:g} x "
            f"{cell[1]:g}: load {model.name} with image_size={whole * side}."
        )


def takes(model: Model, size: Size) -> bool:
    """Return whether a model runs on inputs of a size, by running it once."""
    channels = len(model.preprocessing.mean) if model.preprocessing else 3
    try:
        model.run(torch.zeros(1, channels, *size, device=model.device, dtype=model.dtype))
    except REFUSALS:
        return False
    return True


def scaled(preprocessing: Preprocessing, own: Size, size: Size) -> Preprocessing:
    """Return preprocessing that makes inputs of ``size`` as it made those of the ``own`` size.

    Sizes of resizes and crops are multiplied by the ratio, and rounded up so that no crop finds
    less than it cuts.
    """
    ratios = size.height / own.height, size.width / own.width
    steps = [
        _scaled(step, ratios) if type(step).__name__ in (*RESIZES, *CROPS) else step
        for step in preprocessing.steps
    ]
    return replace(preprocessing, steps=steps)


def _scaled(step: Any, ratios: tuple[float, float]) -> Any:
    changed = copy.copy(step)
    changed.size = _extent(step.size, ratios)
    if getattr(step, "max_size", None) is not None:
        changed.max_size = _times(step.max_size, max(ratios))
    return changed


def _extent(size: Any, ratios: tuple[float, float]) -> Any:
    """Return a size times the ratios: a shorter side, (height, width), or one by name."""
    if isinstance(size, int):
        return _times(size, min(ratios))
    if isinstance(size, Size):
        return Size(*map(_times, size, ratios))
    if isinstance(size, (tuple, list)):
        return type(size)(map(_times, size, ratios if len(size) == 2 else ratios[:1]))
    named: Mapping[str, int | None] = dict(size)
    by_name = {"height": ratios[0], "width": ratios[1]}
    return type(size)(
        **{
            key: None if value is None else _times(value, by_name.get(key, min(ratios)))
            for key, value in named.items()
        }
    )


def _times(pixels: int, ratio: float) -> int:
    return math.ceil(pixels * ratio - 1e-9)
