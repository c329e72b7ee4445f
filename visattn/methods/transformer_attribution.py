"""Transformer attribution (Chefer, Gur & Wolf, CVPR 2021): relevance times gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from visattn.adapters import Adapter, Chain, Placement, chain_of, remembered
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.gathering import gradient_of
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method, Passes
from visattn.methods.registry import METHODS
from visattn.methods.relevance_pass import PRECISIONS, relevance_record, relevance_refusal
from visattn.methods.residual import kept
from visattn.methods.walk import Product, Walk, padding_mass, padding_notes
from visattn.observation import AttentionOperation, AttentionRecord
from visattn.propagation.relevance_rules import ratio

CONDITION = (
    "relevance was propagated in float32; maps that start at early layers can differ from float64 "
    "by tens of per cent"
)


@METHODS.register("transformer_attribution")
@dataclass(frozen=True)
class TransformerAttribution(Method):
    """Relevance of the attention weights times their gradient, accumulated over layers.

    ``E_l = mean_h (G_l * R_A_l)^+``, ``C = (I + E_L) ... (I + E_(s+1))``, map
    ``(r (C - I))[patches]`` with r the read-out row and s = ``start_layer``. G is the gradient of
    the score by the attention weights A and ``R_A = 1/2 A * (S V^T)``, ``S = R_O / O``, their
    relevance; the identity is left out as in `gae`. Windows, merging, parallel attentions and
    pooling heads are steps as in `gae`. Values >= 0, in units of the score. Class-specific.

    Relevance R starts from the share of each output in the score, ``(dy/do * o) / y``, the one-hot
    vector of the paper where the score is a class, and is handed down by the rules of
    `visattn.propagation.relevance_rules`: z+ on ``x^+ W^+ + x^- W^-`` in linear layers, biases
    ignored; unchanged by norms, activation functions, softmax, dropout and constants; in half to
    each factor of a matrix product; in proportion at additions, rescaled to the absolute sums of
    both branches of the image. Quotients are stabilised by 1e-9 with the sign of the denominator;
    relevance of Q and K divides by raw scores and is the least stable part. Beyond the paper, whose
    models are ViTs with a class token: convolutions are linear layers, means share in proportion,
    rotary embeddings are additions. A function without a rule (gated MLPs, squeeze-and-excitation,
    talking heads) is refused by name.

    The chain is ill-conditioned when it starts at early layers: in float32 maps move by tens of
    per cent. ``precision`` is therefore float64 whatever the model's; float32 is faster and
    warned of. The pass runs on one image at a time, on a twin of the model that shares its weights,
    each lifted when it is used. Cost: forward and backward twice, the second one in float64 and
    about 3 to 5 forward passes' worth; memory linear in the number of tokens (ViT-B at 224 pixels:
    0.3 GB and 7 s on one core, of which float32 would save half and a third).

    Chefer, Gur & Wolf, CVPR 2021. The authors' code needs re-written models, sums additions over
    the whole batch, so that a map depends on its neighbours, stabilises by +1e-9 whatever the sign,
    and does not normalise rows of E; its evaluation starts at layer 1.
    """

    class_specific: ClassVar[bool] = True
    attention: ClassVar[bool] = True
    walks: ClassVar[bool] = True
    gradients: ClassVar[bool] = True
    memory: ClassVar[str] = "N D + H b N"
    applies: ClassVar[str] = "attention over tokens; layers with a rule of relevance"
    formula: ClassVar[str] = "m <- m + (r + m) mean_h (G * R_A)^+, last layer to first"
    paper: ClassVar[str] = "Chefer, Gur & Wolf, CVPR 2021"

    start_layer: int = 0
    layers: Any = None
    query: Any = None
    precision: str = "float64"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UnsupportedMethodError(
                f"transformer_attribution: precision={self.precision!r} is none of "
                f"{', '.join(PRECISIONS)}."
            )

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return the pass for gradients and the pass for relevance."""
        del adapter, size
        return Passes(2, 2)

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why there is no walk, or which function of the model has no rule of relevance."""
        reason, chain = super().refusal(adapter, size), chain_of(adapter, size)
        if reason is not None:
            return reason
        if isinstance(chain, Chain) and chain.crossed:
            return "it has no rule for an encoder and a decoder; gae has"
        key = ("relevance", id(adapter), size)  # a whole pass, if a hollow one
        return remembered(key, lambda: relevance_refusal(adapter.module, size))

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the accumulated relevance on the grid."""
        walk = Walk.of(record)
        chosen = choose(len(walk.layers), self.layers, self.start_layer)
        starts, dtype = walk.start(self.query, geometries), PRECISIONS[self.precision]
        rows, lost = [], []
        for image in range(record.batch):
            alone = Walk.of(relevance_record(record, image, dtype))
            row = starts[image : image + 1].to(dtype)
            gained, padding = self._gained(_Pair(walk, alone, image), row, chosen)
            rows.append(gained)
            lost.append(padding)
        padding, layout = torch.cat(lost), walk.chain.layout
        told = [] if dtype == torch.float64 else [CONDITION]
        return Maps(
            layout.to_grid(torch.cat(rows)),
            layout.cell,
            warnings=[[*told, *notes] for notes in padding_notes(padding)],
            facts={"readout": walk.start_name(self.query), "layers": chosen},
            measured=[{"padding_mass": round(share, 6)} for share in padding.tolist()],
        )

    def _gained(
        self, pair: _Pair, own: torch.Tensor, chosen: Sequence[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return ``r (C - I)`` (1, token) of one image, and the share (1,) that fell on padding."""
        gained, lost = torch.zeros_like(own), list[torch.Tensor]()
        for step, attends in pair.relevance.steps(self.query, chosen):
            parts = [
                pair.relevance.through(placed, own + gained, pair.product(placed), lost)
                for placed in (step.placements if attends else ())
            ]
            own, gained = kept(step, own), kept(step, gained)
            gained = torch.stack([gained, *parts]).sum(dim=0)
        return gained, padding_mass(lost, gained.sum(dim=1))


@dataclass(frozen=True, eq=False)
class _Pair:
    """The walk of a batch with gradients, and of one of its images with relevance."""

    gradient: Walk
    relevance: Walk
    image: int

    def product(self, placed: Placement) -> Product:
        """Return ``r E`` with ``E_ij = 1/(2H) sum_h (<dO_hi, V_hj> A_hij <S_hi, V_hj>)^+``."""
        windows = slice(self.image * placed.windows, (self.image + 1) * placed.windows)
        slopes = self.gradient.operation(placed).output_gradient
        if slopes is None:
            raise UnsupportedMethodError(f"{placed.operation} was observed without gradients.")

        def product(operation: AttentionOperation, row: torch.Tensor) -> torch.Tensor:
            assert operation.output_gradient is not None  # noqa: S101  of the relevance pass
            share = ratio(operation.output_gradient, operation.output) / 2
            shared = replace(operation, output_gradient=share)
            sloped = replace(operation, output_gradient=slopes[windows].to(share.dtype))
            result = operation.new_row(row)
            for block in sloped.row_blocks(row):
                assert block.gradient is not None  # noqa: S101  given above
                relevance = block.attn * gradient_of(shared, block.rows)
                positive = (relevance * block.gradient).clamp_(min=0).mean(dim=1)
                result += torch.einsum("bq,bqk->bk", row[:, block.rows], positive)
            return result

        return product
