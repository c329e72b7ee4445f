"""Occlusion (Zeiler & Fergus, ECCV 2014)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from visattn.adapters import Adapter
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.baseline import baseline_of, described, require_baseline
from visattn.methods.method import Maps, Method, Passes
from visattn.methods.pixels import Scores, differentiable, patches_near, require_counts
from visattn.methods.registry import METHODS
from visattn.observation import AttentionRecord

WINDOW, PARTS = 16, 8


@METHODS.register("occlusion")
@dataclass(frozen=True)
class Occlusion(Method):
    """What the score loses when a window of the image is covered.

    ``m_p = mean_{w covers p} y(x) - y(x with window w replaced by the baseline)``, signed, in units
    of the score. ``window`` and ``stride`` are in input pixels, an int or (rows, cols); the default
    window is the whole number of the model's patches that comes nearest to 16 pixels, at least one
    (an eighth of the shorter side for models without patches), and the default stride is the
    window, so that none overlap. Windows start at the top left corner, and the last of a row or
    column are cut at the edge. The map is constant on cells of the greatest common divisor of
    window and stride, which is its resolution. ``baseline`` is ``mean``, ``black``, ``blur`` or a
    normalised tensor, as for `integrated_gradients`. Class-specific; one forward pass for each
    window, ``chunk`` images at a time.

    Zeiler & Fergus, ECCV 2014 (a grey square); computed by captum.
    """

    class_specific: ClassVar[bool] = True
    signed: ClassVar[bool] = True
    memory: ClassVar[str] = "pixels"
    formula: ClassVar[str] = "mean over windows of y - y(window covered)"
    paper: ClassVar[str] = "Zeiler & Fergus, ECCV 2014"

    window: Any = None
    stride: Any = None
    baseline: Any = "mean"
    chunk: int = 16

    def __post_init__(self) -> None:
        require_counts(self, ("chunk",))
        require_baseline(self.baseline)
        for name in ("window", "stride"):
            _require_extent(name, getattr(self, name))

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why windows do not fit the input, or None."""
        window, stride = self._extents(adapter, size)
        if any(w > extent for w, extent in zip(window, size, strict=True)):
            return f"window={self.window!r} is larger than the input of {_words(size)}"
        if any(step > w for step, w in zip(stride, window, strict=True)):
            return (
                f"stride={self.stride!r} is larger than the window of {_words(window)}, so that "
                "some pixels would never be covered"
            )
        return None

    @property
    def additive(self) -> bool:
        """Differences are shares where windows do not overlap."""
        return _pair(self.stride) in (None, _pair(self.window))

    @property
    def origin(self) -> Any:
        """The baseline that was asked for."""
        return self.baseline

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return the shared pass, the image as it is, and one pass for each window."""
        rows, cols = self._windows(adapter, size)
        return Passes(2 + rows * cols)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return signed differences on the cells where they are constant."""
        from captum.attr import Occlusion as Captum

        del geometries
        window, stride = self._extents(record.adapter, record.size)
        rows, cols = self._windows(record.adapter, record.size)
        with differentiable(record) as inputs:
            channels = inputs.shape[1]
            scores = Scores(record, "occlusion", record.batch * (rows * cols + 1))
            found = Captum(scores).attribute(
                inputs.detach(),
                sliding_window_shapes=(channels, *window),
                strides=(channels, *stride),
                baselines=baseline_of(self.baseline, record, inputs),
                additional_forward_args=(record.indices,),
                perturbations_per_eval=max(1, self.chunk // record.batch),
            )
        height, width = (math.gcd(w, s) for w, s in zip(window, stride, strict=True))
        values = found.detach()[:, 0, ::height, ::width]  # a window covers all channels alike
        facts = {
            "window": list(window),
            "stride": list(stride),
            "baseline": described(self.baseline),
        }
        return Maps(values, (float(height), float(width)), facts=facts)

    def _extents(self, adapter: Adapter, size: Size) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return window and stride (rows, cols)."""
        window = _pair(self.window) or _default_window(adapter, size)
        return window, _pair(self.stride) or window

    def _windows(self, adapter: Adapter, size: Size) -> tuple[int, int]:
        """Return how many windows there are (rows, cols)."""
        window, stride = self._extents(adapter, size)
        rows, cols = (
            -(-(extent - w) // s) + 1 for extent, w, s in zip(size, window, stride, strict=True)
        )
        return rows, cols


def _default_window(adapter: Adapter, size: Size) -> tuple[int, int]:
    side = max(1, round(min(size) / PARTS))
    return patches_near(adapter, size, WINDOW) or (side, side)


def _pair(value: Any) -> tuple[int, int] | None:
    if value is None or not isinstance(value, int):
        return None if value is None else (int(value[0]), int(value[1]))
    return value, value


def _require_extent(name: str, value: Any) -> None:
    parts = value if isinstance(value, (tuple, list)) else [value, value]
    whole = all(isinstance(part, int) and not isinstance(part, bool) for part in parts)
    if value is not None and (not whole or len(parts) != 2 or min(parts) < 1):
        raise UnsupportedMethodError(
            f"{name}={value!r} is not a number of pixels or (rows, cols), at least 1 each."
        )


def _words(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"
