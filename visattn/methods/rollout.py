"""Attention rollout (Abnar & Zuidema, ACL 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.methods.heads import fuse
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.methods.walk import Operations, Walk
from visattn.observation import AttentionOperation, AttentionRecord

LARGEST = 4096


@METHODS.register("rollout")
@dataclass(frozen=True)
class Rollout(Method):
    """Product of the residual attention matrices of all layers, one row of it.

    ``T_l = rownorm(rho I + (1 - rho) fuse_h A_l)``, map ``(r T_L ... T_1)[patches]`` with r the
    read-out row and rho = ``residual`` (1/2 in the paper). ``heads`` fuses by mean (paper), max,
    min, or chosen heads; ``start_layer`` drops the first layers; ``layers`` keeps chosen ones.
    ``discard_ratio`` > 0 (an addition of the vit-explain code, not in the paper) sets the entries
    below that quantile of each layer's patch-to-patch weights to zero before the identity is added;
    rows and columns of prefix tokens are never touched. The row sums to 1 over all tokens, prefix
    included. Parallel attentions of one block are
    averaged. Class-agnostic.

    Computed as ``q = r / rowsum, r <- rho q + (1 - rho) q fuse(A)`` from the last layer to the
    first: 2 L N^2 D operations, memory linear in the number of tokens (with ``discard_ratio`` one
    layer's fused N x N weights at a time, and N at most 4096).

    Abnar & Zuidema, ACL 2020. Common code starts at layer 1, divides columns by row sums, or
    discards entries of the prefix tokens; none of that happens here.
    """

    attention: ClassVar[bool] = True
    paper: ClassVar[str] = "Abnar & Zuidema, ACL 2020"

    residual: float = 0.5
    discard_ratio: float = 0.0
    start_layer: int = 0
    layers: Any = None
    heads: Any = "mean"
    query: Any = None

    def __post_init__(self) -> None:
        for name in ("residual", "discard_ratio"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < 1:
                raise UnsupportedMethodError(f"{name}={value!r} is not a number in [0, 1).")

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the rolled-out row on the grid."""
        walk = Walk.of(record)
        row = walk.start(self.query, geometries, self._pool)
        chosen = choose(len(walk.blocks), self.layers, self.start_layer)
        layout = walk.chain.layout
        for index in reversed(chosen):
            row = self._step(walk.blocks[index], row, len(layout.prefix))
        facts = {"readout": walk.start_name(self.query), "layers": chosen}
        return Maps(layout.to_grid(row), layout.cell, facts=facts)

    def _step(self, operations: Operations, row: torch.Tensor, prefix: int) -> torch.Tensor:
        if self.discard_ratio:
            rows = [self._discarding(op, row, prefix) for op in operations]
        else:
            rows = [self._block(op, row, self.residual) for op in operations]
        return torch.stack(rows).mean(dim=0)

    def _discarding(
        self, operation: AttentionOperation, row: torch.Tensor, prefix: int
    ) -> torch.Tensor:
        """Return ``row rownorm(rho I + (1 - rho) D)``, D the fused weights without the lowest."""
        if operation.shape[3] > LARGEST:
            raise UnsupportedMethodError(
                f"discard_ratio needs the fused weights of a layer at once; {operation.shape[3]} "
                f"tokens are more than {LARGEST}. Use a smaller image_size."
            )
        blocks = [fuse(block.attn, self.heads) for block in operation.row_blocks()]
        kept = discard(torch.cat(blocks, dim=1), self.discard_ratio, prefix)
        scaled = row / (self.residual + (1 - self.residual) * kept.sum(dim=-1))
        mixed = torch.einsum("bq,bqk->bk", scaled, kept)
        return (1 - self.residual) * mixed + self.residual * scaled

    def _pool(self, operations: Operations, row: torch.Tensor) -> torch.Tensor:
        return self._block(operations[0], row, 0.0)

    def _block(self, operation: AttentionOperation, row: torch.Tensor, rho: float) -> torch.Tensor:
        """Return ``row rownorm(rho I + (1 - rho) fuse(A))``."""
        if self.heads == "mean":
            mixed = (1 - rho) * operation.left_multiply(row)
            return mixed + rho * row if rho else mixed
        result = operation.new_row(row)
        for block in operation.row_blocks(row):
            fused = fuse(block.attn, self.heads)
            scaled = row[:, block.rows] / (rho + (1 - rho) * fused.sum(dim=-1))
            result += (1 - rho) * torch.einsum("bq,bqk->bk", scaled, fused)
            if rho:
                result[:, block.rows] += rho * scaled
        return result


def discard(fused: torch.Tensor, ratio: float, prefix: int) -> torch.Tensor:
    """Zero the patch-to-patch entries below their ``ratio`` quantile, for each image.

    ``fused`` (batch, query, key); the quantile interpolates linearly, as numpy's does.
    """
    kept = fused.clone()
    patches = kept[:, prefix:, prefix:]
    ordered = patches.flatten(1).sort(dim=1).values
    place = ratio * (ordered.shape[1] - 1)
    low, share = int(place), place - int(place)
    high = min(low + 1, ordered.shape[1] - 1)
    threshold = ordered[:, low] + share * (ordered[:, high] - ordered[:, low])
    patches.masked_fill_(patches < threshold[:, None, None], 0.0)
    return kept
