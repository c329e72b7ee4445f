"""Axes: where each axis of a tensor goes when it is viewed, permuted, sliced or reshaped."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29)
NEW = -1


def viewed(
    view: Callable[..., Any],
    shape: Sequence[int],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> list[tuple[int, ...]]:
    """Return for each result of ``view(tensor, *args)`` which axis of the tensor its axes are.

    The view is asked of a tensor without storage whose strides name its axes, so any function that
    returns views with the strides of its argument is understood. An axis that was not there
    before, or that was stepped through, is `NEW`.
    """
    strides = PRIMES[: len(shape)]
    probe = torch.empty_strided(tuple(shape), strides, device="meta")
    results = view(probe, *args, **kwargs)
    several = results if isinstance(results, (tuple, list)) else (results,)
    return [_origins(result, strides) for result in several]


def _origins(result: torch.Tensor, strides: Sequence[int]) -> tuple[int, ...]:
    found: list[int] = []
    for stride in result.stride():
        axis = strides.index(stride) if stride in strides else NEW
        found.append(NEW if axis in found else axis)
    return tuple(found)


def inner(shape: Sequence[int], axis: int) -> int:
    """Return how many numbers lie, row-major, between two neighbours along ``axis``."""
    return math.prod(shape[axis + 1 :])


def with_inner(shape: Sequence[int], size: int, stride: int) -> int | None:
    """Return the axis of ``size`` whose neighbours lie ``stride`` apart, or None if merged."""
    for axis in reversed(range(len(shape))):
        if shape[axis] == size and inner(shape, axis) == stride:
            return axis
    return None


def swapped(count: int) -> tuple[int, ...]:
    """Return the permutation of ``count`` axes that exchanges the last two."""
    return (*range(count - 2), count - 1, count - 2)
