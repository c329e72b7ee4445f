"""Pixels: what attributions of input pixels share, from the score to the cells of the map."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch.nn import functional

from visattn.adapters import Adapter, Refusal, chain_of
from visattn.errors import UnsupportedMethodError
from visattn.images import Image, Size
from visattn.methods.method import Maps, Method
from visattn.observation import AttentionRecord, wide
from visattn.progress import progress

CELL, CELLS = 8, 28
REDUCTIONS = {
    "max": lambda values: values.amax(dim=1),
    "mean": lambda values: values.mean(dim=1),
    "sum": lambda values: values.sum(dim=1),
}


@dataclass(frozen=True)
class PixelMap(Method):
    """Attribution of input pixels, reduced over channels and summed over cells.

    A cell is a square of ``cell`` by ``cell`` input pixels; 1 keeps the pixels, which on a photo
    are specks that nobody sees, and whose pattern inside a patch comes from the patch embedding.
    The default is therefore the whole number of the model's patches that comes nearest to 8 pixels,
    at least one, and 1/28 of the shorter side for models without patches (8 of 224). Sums keep the
    map's total.
    """

    class_specific: ClassVar[bool] = True
    memory: ClassVar[str] = "pixels"
    counts: ClassVar[tuple[str, ...]] = ()

    cell: int | None = None

    def __post_init__(self) -> None:
        require_counts(self, self.counts)
        if self.cell is not None:
            require_pixels("cell", self.cell)

    def maps(self, record: AttentionRecord, values: torch.Tensor, **more: Any) -> Maps:
        """Return the maps of values (batch, row, col), one for each input pixel."""
        cell = (self.cell, self.cell) if self.cell else default_cell(record)
        rows, cols = (min(side, extent) for side, extent in zip(cell, record.size, strict=True))
        cells = functional.avg_pool2d(values, (rows, cols), ceil_mode=True, divisor_override=1)
        return Maps(cells, (float(rows), float(cols)), **more)


class Scores:
    """The explained scalar as captum asks for it, from inputs (batch, ...) and their images.

    Inputs come in float32 or wider and are rounded to the model's own type. With ``total``, the
    number of inputs that will be scored, progress is reported as ``work``.
    """

    def __init__(self, record: AttentionRecord, work: str = "", total: int = 0) -> None:
        self._record = record
        self._work, self._total, self._done = work, total, 0
        self._report()

    def __call__(self, inputs: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """Return scores (batch,) of inputs that belong to the images ``index`` (batch,)."""
        found = self._record.again.scores(inputs.to(self._record.inputs.dtype), index)
        self._done = min(self._done + len(index), self._total)
        self._report()
        return wide(found)

    def _report(self) -> None:
        if self._total:
            progress(self._work, self._done, self._total)


class One(NamedTuple):
    """One image of a record, its input (1, channel, row, col) and which it is (1,)."""

    image: Image
    inputs: torch.Tensor
    which: torch.Tensor


@contextmanager
def differentiable(record: AttentionRecord) -> Iterator[torch.Tensor]:
    """Yield the inputs in float32 or wider, requiring gradients, where gradients can be taken."""
    with torch.inference_mode(mode=False), torch.enable_grad():
        yield wide(record.inputs.detach().clone()).requires_grad_()


def one_by_one(record: AttentionRecord, inputs: torch.Tensor) -> Iterator[One]:
    """Return the images of a record for methods that draw random numbers for each."""
    singles = (torch.split(part, 1) for part in (inputs.detach(), record.indices))
    parts = zip(record.images, *singles, strict=True)
    return (One(*part) for part in parts)


def reduced(values: torch.Tensor, channels: str) -> torch.Tensor:
    """Return (batch, row, col) from (batch, channel, row, col), reduced as ``channels`` says."""
    found: torch.Tensor = REDUCTIONS[channels](values.detach())
    return found


def spread(inputs: torch.Tensor) -> float:
    """Return the range of one input's values, of which noise is a fraction."""
    return float(inputs.max() - inputs.min())


def default_cell(record: AttentionRecord) -> tuple[int, int]:
    """Return the cells (rows, cols) of maps of pixels where none were asked for."""
    side = max(1, round(min(record.size) / CELLS))
    return patches_near(record.adapter, record.size, CELL) or (side, side)


def patches_near(adapter: Adapter, size: Size, pixels: int) -> tuple[int, int] | None:
    """Return the whole number of patches that comes nearest to ``pixels``, at least one, in pixels.

    (rows, cols); None for a model without patches.
    """
    chain = chain_of(adapter, size)
    if isinstance(chain, Refusal):
        return None
    rows, cols = (round(side * max(1, round(pixels / side))) for side in chain.layout.cell)
    return min(rows, size.height), min(cols, size.width)


def require_pixels(name: str, value: Any) -> None:
    """Raise where an option is not a number of pixels."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UnsupportedMethodError(f"{name}={value!r} is not a number of pixels, at least 1.")


def require_counts(method: Method, names: tuple[str, ...]) -> None:
    """Raise where an option that counts something is not at least 1."""
    for name in names:
        value = getattr(method, name)
        if value < 1:
            raise UnsupportedMethodError(f"{name}={value!r} is not at least 1.")


def require_choice(method: Method, name: str, choices: tuple[str, ...]) -> None:
    """Raise where an option is none of its values."""
    value = getattr(method, name)
    if value not in choices:
        raise UnsupportedMethodError(f"{name}={value!r} is not one of {', '.join(choices)}.")


def require_share(method: Method, name: str) -> None:
    """Raise where an option that is a fraction of something is negative."""
    value = getattr(method, name)
    if not 0 <= value < float("inf"):
        raise UnsupportedMethodError(f"{name}={value!r} is not a fraction of at least 0.")
