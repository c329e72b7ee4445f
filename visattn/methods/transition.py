"""Transition: a layer as a row-normalised residual matrix, applied to one row of relevance."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from visattn.adapters import Placement, Step
from visattn.errors import UnsupportedMethodError
from visattn.methods.treatment import Treatment, masked
from visattn.observation import AttentionOperation, RowBlock

LARGEST = 4096


@dataclass(frozen=True, eq=False)
class Transition:
    """``T = rownorm(rho I + (1 - rho) W)`` of a layer with non-negative weights W over tokens.

    With the residual path S and the placement of tokens in query and key slots a layer is
    ``rho S + (1 - rho) Q W K``, each row of slots normalised; tokens that do not attend pass
    through S whole, and a layer without a residual path is ``rownorm(W)``.

    Attributes:
        rho: weight of the residual path.
        weights: W (batch, row, key) of a block of complete rows.
        treatment: what happens to artefact tokens.
        discard_ratio: quantile of W's patch-to-patch entries below which these are zeroed.
        stochastic: whether W is the head mean of the weights themselves, whose rows sum to one
            where a softmax made them: no sums need be taken.
        lost: for each operation that was walked, what fell on padding (batch,).
    """

    rho: float
    weights: Callable[[RowBlock], torch.Tensor]
    treatment: Treatment
    discard_ratio: float = 0.0
    stochastic: bool = False
    lost: list[torch.Tensor] = field(default_factory=list, init=False)

    def __call__(self, step: Step, row: torch.Tensor, attends: bool) -> torch.Tensor:
        """Return ``row T``: (batch, token after) -> (batch, token before), parallel ones averaged.

        Where the layer's attention is not walked relevance takes the residual path alone.
        """
        if not attends:
            return row if step.skip is None else step.skip(row)
        parts = [self._through(step, placement, row) for placement in step.placements]
        return self.treatment.handed_on(step, torch.stack(parts).mean(dim=0))

    def _through(self, step: Step, placement: Placement, row: torch.Tensor) -> torch.Tensor:
        rho = 0.0 if step.skip is None else self.rho
        stays = self.treatment.masks(step, placement)
        plain = self.stochastic and not self.discard_ratio and stays is None
        scales: list[torch.Tensor] = []

        def product(operation: AttentionOperation, slots: torch.Tensor) -> torch.Tensor:
            if plain and operation.normalizer == "softmax":
                return (1 - rho) * operation.left_multiply(slots)
            mixed, scale = self._normalised(operation, slots, rho, placement, stays)
            scales.append(scale.reshape(row.shape[0], -1))
            return mixed

        moved = self.treatment.artefacts.walk.through(placement, row, product, self.lost)
        if step.skip is None:
            return moved
        attending = placement.queries.sums.to(row)
        scale = placement.queries.transposed()(scales[0]) if scales else attending
        return moved + step.skip(row * (1 - attending + rho * scale))

    def _normalised(
        self,
        operation: AttentionOperation,
        slots: torch.Tensor,
        rho: float,
        placement: Placement,
        stays: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``slots * scale (1 - rho) W`` and ``scale = 1 / (rho + (1 - rho) rowsum)``.

        Both (batch * window, key) and (batch * window, query).
        """
        mixed, scales = operation.new_row(slots), torch.ones_like(slots)
        for rows, weights in self._blocks(operation, slots, placement):
            kept = masked(weights, stays)
            sums = rho + (1 - rho) * kept.sum(dim=-1)
            scales[:, rows] = torch.where(sums == 0, 0.0, 1 / sums)
            scaled = slots[:, rows] * scales[:, rows]
            mixed += (1 - rho) * torch.einsum("bq,bqk->bk", scaled, kept)
        return mixed, scales

    def _blocks(
        self, operation: AttentionOperation, slots: torch.Tensor, placement: Placement
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield rows (row,) and W (batch * window, row, key) of the rows with relevance."""
        if self.discard_ratio:
            everything = torch.arange(slots.shape[1], device=slots.device)
            yield everything, self._discarding(operation, placement)
            return
        for block in operation.row_blocks(slots):
            yield block.rows, self.weights(block)

    def _discarding(self, operation: AttentionOperation, placement: Placement) -> torch.Tensor:
        """Return W (batch * window, query, key) without the lowest entries of an image."""
        keys = placement.keys.size[0]
        if keys > LARGEST:
            raise UnsupportedMethodError(
                f"discard_ratio needs the fused weights of a layer at once; {keys} tokens are "
                f"more than {LARGEST}. Use a smaller image_size."
            )
        fused = torch.cat([self.weights(block) for block in operation.row_blocks()], dim=1)
        windowed = fused.reshape(-1, placement.windows, *fused.shape[1:])
        return discard(windowed, self.discard_ratio, placement.prefix).reshape_as(fused)


def discard(fused: torch.Tensor, ratio: float, prefix: int) -> torch.Tensor:
    """Zero the patch-to-patch entries below their ``ratio`` quantile, for each image.

    ``fused`` (batch, window, query, key); the quantile interpolates linearly, as numpy's does.
    """
    kept = fused.clone()
    patches = kept[..., prefix:, prefix:]
    if not patches.numel():
        return kept
    ordered = patches.flatten(1).sort(dim=1).values
    place = ratio * (ordered.shape[1] - 1)
    low, share = int(place), place - int(place)
    high = min(low + 1, ordered.shape[1] - 1)
    threshold = ordered[:, low] + share * (ordered[:, high] - ordered[:, low])
    patches.masked_fill_(patches < threshold[:, None, None, None], 0.0)
    return kept


def check_share(name: str, option: str, value: object) -> None:
    """Raise `UnsupportedMethodError` for an option of a method that is no number in [0, 1)."""
    if not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise UnsupportedMethodError(f"{name}: {option}={value!r} is not a number in [0, 1).")
