"""What the heads of one attention layer do: how far they look, and how alike they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from visattn.adapters import Placement, Step, TokenLayout
from visattn.methods.walk import Walk
from visattn.observation import AttentionOperation
from visattn.tokens.reindex import Reindex


@dataclass(frozen=True)
class HeadStatistics:
    """Numbers about the heads of one layer for one image.

    Attributes:
        distance: mean over heads of the attention distance in pixels of the model's input, or None
            where patch tokens do not attend to each other.
        redundancy: mean over pairs of heads of the correlation of their weights, -1 to 1, or None
            where there are no two heads whose weights vary.
    """

    distance: float | None
    redundancy: float | None


def head_statistics(walk: Walk, step: Step) -> list[HeadStatistics]:
    """Return, for each image, how far the heads of a layer look and how alike they are.

    Attention distance of a head: ``sum_qk A_qk |x_q - x_k| / sum_qk A_qk`` over patch queries and
    patch keys, x the centres of patches in pixels of the input (Dosovitskiy et al., ICLR 2021, fig.
    7; here without the attention on prefix tokens). Redundancy of two heads: Pearson's correlation
    of all their weights; 1 for equal heads, about 0 for unrelated ones. Heads of parallel
    operations are paired within their operation only. Cost O(H^2 N^2), memory that of one block of
    rows.
    """
    after = walk.chain.after(walk.place(step))
    images = walk.record.batch
    far: list[torch.Tensor] = []
    alike: list[torch.Tensor] = []
    for placement in step.placements:
        places = _Places.of(placement, step.before, after)
        distance, correlation = _heads(walk.operation(placement), places, images)
        far.append(distance)
        alike.append(correlation)
    distances, pairs = torch.cat(far, dim=1), torch.cat(alike, dim=1)
    return [HeadStatistics(_mean(distances[image]), _mean(pairs[image])) for image in range(images)]


@dataclass(frozen=True, eq=False)
class _Places:
    """Centres (window, slot, 2) of query and key slots, and whether a patch stands there."""

    queries: torch.Tensor
    keys: torch.Tensor
    query_is_patch: torch.Tensor
    key_is_patch: torch.Tensor

    @classmethod
    def of(cls, placement: Placement, before: TokenLayout, after: TokenLayout) -> _Places:
        asking = placement.queries.transposed().normalised()
        queries, query_is_patch = _slots(asking, after, placement.windows)
        keys, key_is_patch = _slots(placement.keys, before, placement.windows)
        return cls(queries, keys, query_is_patch, key_is_patch)

    def distances(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return distances (window, row, key), and 1 where both are patches, else 0."""
        rows = rows.cpu()
        both = self.query_is_patch[:, rows, None] * self.key_is_patch[:, None]
        return torch.cdist(self.queries[:, rows], self.keys) * both, both


def _slots(placed: Reindex, layout: TokenLayout, windows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the centres (window, slot, 2) of slots made of tokens, and which are patches."""
    rows, cols = layout.grid
    down, right = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    centres = torch.zeros(layout.tokens, 3, dtype=torch.float64)
    centres[layout.places, 0] = (down.flatten() + 0.5).double() * layout.cell[0]
    centres[layout.places, 1] = (right.flatten() + 0.5).double() * layout.cell[1]
    centres[layout.places, 2] = 1
    slots = torch.zeros(placed.size[0], 3, dtype=torch.float64)
    slots.index_add_(0, placed.rows, centres[placed.columns] * placed.shares[:, None])
    folded = slots.reshape(windows, -1, 3).float()
    return folded[..., :2], (folded[..., 2] > 0.5).float()


def _heads(
    operation: AttentionOperation, places: _Places, images: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return distances (image, head) and correlations (image, pair), NaN where undefined."""
    heads, entries = operation.shape[1], 0
    far = torch.zeros(images, heads, 2)
    sums, products = torch.zeros(images, heads), torch.zeros(images, heads, heads)
    for block in operation.row_blocks():
        attn = block.attn.float().reshape(images, -1, *block.attn.shape[1:])  # image, window, ...
        both = torch.stack(places.distances(block.rows)).to(attn.device)
        far += torch.einsum("bwhrk,fwrk->bhf", attn, both).cpu()
        by_head = attn.transpose(1, 2).flatten(2)
        sums += by_head.sum(dim=2).cpu()
        products += (by_head @ by_head.transpose(1, 2)).cpu()
        entries += by_head.shape[2]
    distance = torch.where(far[..., 1] > 0, far[..., 0] / far[..., 1], torch.nan)
    return distance, _correlations(products / entries, sums / entries)


def _correlations(products: torch.Tensor, means: torch.Tensor) -> torch.Tensor:
    covariance = products.double() - means.double()[:, :, None] * means.double()[:, None]
    deviations = covariance.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()
    above = torch.triu_indices(products.shape[1], products.shape[1], offset=1)
    spread = deviations[:, above[0]] * deviations[:, above[1]]
    pairs = covariance[:, above[0], above[1]] / spread
    # Weights that hardly vary have a variance of rounding errors alone.
    flat = deviations < 1e-3 * means.double()
    return torch.where(flat[:, above[0]] | flat[:, above[1]], torch.nan, pairs).clamp(-1, 1)


def _mean(values: torch.Tensor) -> float | None:
    found = values[~values.isnan()]
    return float(found.mean()) if len(found) else None
