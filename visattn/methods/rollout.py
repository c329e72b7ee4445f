"""Attention rollout (Abnar & Zuidema, ACL 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.adapters import Adapter, Placement, Site, Step
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.methods.artefacts import SINK, Artefacts
from visattn.methods.heads import fuse
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.methods.treatment import (
    Treatment,
    check_treatment,
    masked,
    treatment_sites,
)
from visattn.methods.walk import Walk
from visattn.observation import AttentionOperation, AttentionRecord
from visattn.outliers import DEVIATIONS

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
    included, less what padded windows take (``padding_mass`` in the provenance). Parallel
    attentions of one block are averaged. Class-agnostic.

    In windowed and hierarchical models a layer is ``rho S + (1 - rho) Q fuse(A) K`` with the
    placement of tokens in query and key slots and the residual path S; merging and strided
    convolutions hand relevance to what they read. No paper validates rollout across stages: it is
    the same product, shown as an approximation.

    ``outliers`` says what happens to attention sinks (more than ``sink_factor`` / N attention on
    average) and norm outliers (median + ``norm_deviations`` * 1.4826 MAD) among the patch tokens of
    each layer: ``keep``, ``mask`` (their columns of ``fuse A`` are zero, rows keep their sums) or
    ``redistribute`` (behind each layer their relevance goes to the other patch tokens in proportion
    to what these have). Both are additions of this package, recorded in warnings and provenance.

    Computed as ``q = r / rowsum, r <- rho q + (1 - rho) q fuse(A)`` from the last layer to the
    first: 2 L N^2 D operations, memory linear in the number of tokens (with ``discard_ratio`` one
    layer's fused N x N weights at a time, and N at most 4096).

    Abnar & Zuidema, ACL 2020. Common code starts at layer 1, divides columns by row sums, or
    discards entries of the prefix tokens; none of that happens here.
    """

    attention: ClassVar[bool] = True
    memory: ClassVar[str] = "H b N"
    applies: ClassVar[str] = "attention over tokens"
    walks: ClassVar[bool] = True
    formula: ClassVar[str] = (
        "r <- r rownorm(rho I + (1 - rho) fuse A), last layer to first, rho = 1/2"
    )
    paper: ClassVar[str] = "Abnar & Zuidema, ACL 2020"

    residual: float = 0.5
    discard_ratio: float = 0.0
    start_layer: int = 0
    layers: Any = None
    heads: Any = "mean"
    query: Any = None
    outliers: str = "keep"
    sink_factor: float = SINK
    norm_deviations: float = DEVIATIONS

    def __post_init__(self) -> None:
        check_treatment("rollout", self.outliers, self.sink_factor, self.norm_deviations)
        for name in ("residual", "discard_ratio"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not 0 <= value < 1:
                raise UnsupportedMethodError(f"{name}={value!r} is not a number in [0, 1).")

    def sites(self, adapter: Adapter) -> tuple[Site, ...]:
        """Return the tokens behind each block where outliers are not kept."""
        return treatment_sites(self.outliers, adapter)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the rolled-out row on the grid."""
        walk = Walk.of(record)
        row = walk.start(self.query, geometries)
        chosen = choose(len(walk.layers), self.layers, self.start_layer)
        artefacts = Artefacts(walk, self.sink_factor, self.norm_deviations)
        treatment = Treatment(self.outliers, artefacts)
        for step, attends in walk.steps(self.query, chosen):
            if attends:
                parts = [self._attend(treatment, step, each, row) for each in step.placements]
                row = treatment.handed_on(step, torch.stack(parts).mean(dim=0))
            elif step.skip is not None:
                row = step.skip(row)
        facts = {"readout": walk.start_name(self.query), "layers": chosen}
        return treatment.maps(row, 1 - row.sum(dim=1), facts)

    def _attend(
        self, treatment: Treatment, step: Step, placement: Placement, row: torch.Tensor
    ) -> torch.Tensor:
        """Return ``row rownorm(rho S + (1 - rho) Q fuse(A) K)``, S the residual path.

        Tokens that do not attend in this operation pass through S whole.
        """
        rho = 0.0 if step.skip is None else self.residual
        stays = treatment.masks(step, placement)
        plain = self.heads == "mean" and not self._discards and stays is None
        scales: list[torch.Tensor] = []

        def product(operation: AttentionOperation, slots: torch.Tensor) -> torch.Tensor:
            if plain and operation.normalizer == "softmax":
                return (1 - rho) * operation.left_multiply(slots)
            mixed, scale = self._normalised(operation, slots, rho, placement, stays)
            scales.append(scale.reshape(row.shape[0], -1))
            return mixed

        moved = treatment.artefacts.walk.through(placement, row, product)
        if step.skip is None:
            return moved
        attending = placement.queries.sums.to(row)
        scale = placement.queries.transposed()(scales[0]) if scales else attending
        return moved + step.skip(row * (1 - attending + rho * scale))

    @property
    def _discards(self) -> bool:
        return self.discard_ratio > 0

    def _normalised(
        self,
        operation: AttentionOperation,
        slots: torch.Tensor,
        rho: float,
        placement: Placement,
        stays: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``slots * scale (1 - rho) fuse(A)`` and ``scale = 1 / (rho + (1 - rho) rowsum)``.

        Both (batch * window, key) and (batch * window, query).
        """
        if self._discards:
            everything = torch.arange(slots.shape[1], device=slots.device)
            blocks = iter([(everything, self._discarding(operation, placement))])
        else:
            read = operation.row_blocks(slots)
            blocks = ((block.rows, fuse(block.attn, self.heads)) for block in read)
        mixed, scales = operation.new_row(slots), torch.ones_like(slots)
        for rows, weights in blocks:
            fused = masked(weights, stays)
            sums = rho + (1 - rho) * fused.sum(dim=-1)
            scales[:, rows] = torch.where(sums == 0, 0.0, 1 / sums)
            scaled = slots[:, rows] * scales[:, rows]
            mixed += (1 - rho) * torch.einsum("bq,bqk->bk", scaled, fused)
        return mixed, scales

    def _discarding(self, operation: AttentionOperation, placement: Placement) -> torch.Tensor:
        """Return the fused weights (batch * window, query, key) without the lowest of an image."""
        keys = placement.keys.size[0]
        if keys > LARGEST:
            raise UnsupportedMethodError(
                f"discard_ratio needs the fused weights of a layer at once; {keys} tokens are "
                f"more than {LARGEST}. Use a smaller image_size."
            )
        blocks = [fuse(block.attn, self.heads) for block in operation.row_blocks()]
        fused = torch.cat(blocks, dim=1)
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
