"""Broadcast: weights times value as an elementwise product that is summed along an axis."""

from __future__ import annotations

import math

import torch

from visattn.observation.product import Product


class Broadcast:
    """``(weights * value).sum(axis)``, its axes sorted into shared, query, key and channel."""

    def __init__(
        self, shape: torch.Size, axis: int, attn: torch.Tensor, value: torch.Tensor
    ) -> None:
        self.axis = axis
        self.attn = attn.reshape((1,) * (len(shape) - attn.ndim) + attn.shape)
        self.value = value.reshape((1,) * (len(shape) - value.ndim) + value.shape)
        others = [place for place in range(len(shape)) if place != axis]
        self._query = [p for p in others if self.value.shape[p] == 1 < self.attn.shape[p]]
        self._channel = [p for p in others if self.attn.shape[p] == 1 < self.value.shape[p]]
        self._shared = [p for p in others if p not in self._query and p not in self._channel]
        self.queries = math.prod(shape[p] for p in self._query)
        self.channels = sum(1 for p in self._channel)

    def product(self, result: torch.Tensor, *, keep: bool) -> Product:
        """Return the sum as a product; ``result`` has the summed axis with size 1."""

        def bring(tensor: torch.Tensor) -> torch.Tensor:
            whole = tensor if keep else tensor.unsqueeze(self.axis)
            return self._matrix(whole, self._query, self._channel)

        weights = self._matrix(self.attn, self._query, [self.axis])
        value = self._matrix(self.value, [self.axis], self._channel)
        return Product(weights, value, self._matrix(result, self._query, self._channel), bring)

    def _matrix(self, tensor: torch.Tensor, rows: list[int], columns: list[int]) -> torch.Tensor:
        rest = [p for p in range(tensor.ndim) if p not in (*self._shared, *rows, *columns)]
        ordered = tensor.permute(*self._shared, *rows, *columns, *rest)
        lead = ordered.shape[: len(self._shared)]
        size = [math.prod(tensor.shape[p] for p in part) for part in (rows, columns)]
        return ordered.reshape(*lead, *size)
