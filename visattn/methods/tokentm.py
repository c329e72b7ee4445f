"""Token transformation matters, TokenTM (Wu, Duan, Kang, Tang & Yan, CVPR 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.adapters import Adapter, Block, Chain, Site, Step, chain_of
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.blocks import StreamMethod, block_of, blocks_of, read, values_of
from visattn.methods.layers import choose
from visattn.methods.method import Maps
from visattn.methods.registry import METHODS
from visattn.methods.residual import added
from visattn.methods.walk import Product, Walk
from visattn.observation import AttentionOperation, AttentionRecord

VARIANTS = ("heads", "mean")


@METHODS.register("tokentm")
@dataclass(frozen=True)
class TokenTransformation(StreamMethod):
    """Positive gradient times attention, scaled by how far each module changes its tokens.

    A module that makes E~ of tokens E weighs token i by ``w_i = (|E~_i| / |E_i|) softmax_i(cos(E_i,
    E~_i))``, the softmax over all tokens. Attention: ``U = I + mean_h (G_h)^+ * A_h diag(w_h)``,
    ``E~_h = s V_h W_O^h`` of each head without output bias, LayerScale s inside; MLP: ``U = I +
    diag(w)`` from the tokens before and after its branch is added. Map ``(r U_mlp,L U_attn,L ...
    U_mlp,1 U_attn,1 diag(|E_0|))[patches]`` from ``start_layer`` on, E_0 the tokens that enter that
    layer, r the read-out row or a query, G the gradient of the explained score. Values >= 0.
    Class-specific.

    ``variant="mean"`` is a cheaper map of a public re-implementation: ``U = I + Abar * mean_h
    (G_h)^+ diag(w)`` with E~ the tokens behind the attention residual. Sequential pre-norm
    transformers only; refused for attention-pooling heads, which do not transform the tokens that
    they read, unless a query is given. Forward, backward, 4 L N^2 D + L N D^2; memory linear in the
    number of tokens.

    Wu, Duan, Kang, Tang & Yan, CVPR 2024; written from the paper, as no official code was found.
    """

    class_specific: ClassVar[bool] = True
    gradients: ClassVar[bool] = True
    sequential: ClassVar[bool] = True
    memory: ClassVar[str] = "L N D + H b N"
    formula: ClassVar[str] = (
        "r prod (I + diag w_mlp)(I + mean_h G^+ * A diag w_h) diag|E_0|, w = |E~|/|E| softmax cos"
    )
    paper: ClassVar[str] = "Wu, Duan, Kang, Tang & Yan, CVPR 2024"

    start_layer: int = 0
    variant: str = "heads"
    query: Any = None
    backward: str = "plain"

    def __post_init__(self) -> None:
        if self.variant not in VARIANTS:
            raise UnsupportedMethodError(
                f"variant={self.variant!r} is none of {', '.join(VARIANTS)}."
            )

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why the formula says nothing about a model, or None."""
        reason, chain = super().refusal(adapter, size), chain_of(adapter, size)
        if reason is None and isinstance(chain, Chain) and chain.pool and self.query is None:
            return (
                "its head pools tokens by attention, which does not transform the tokens that it "
                "reads as the formula says; start from a query: 'mean' or (row, col)"
            )
        return reason

    def sites(self, adapter: Adapter) -> tuple[Site, ...]:
        """Return the tokens before, between and after the branches of each block."""
        blocks = blocks_of(adapter)
        return tuple(
            site for block in blocks for site in (block.before, behind(block), block.after)
        )

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the transformed relevance on the grid."""
        walk = Walk.of(record)
        row = walk.start(self.query, geometries)
        chosen = choose(len(walk.layers), None, self.start_layer)
        for step, attends in walk.steps(self.query, chosen):
            if attends:
                row = added(walk, step, row * _mlp(walk, step), [self._moved(walk, step)], [])
        entered = read(record, blocks_of(record.adapter)[self.start_layer].before)
        layout = walk.chain.layout
        facts = {"readout": walk.start_name(self.query), "layers": chosen}
        lengths = torch.linalg.vector_norm(entered, dim=-1)
        return Maps(layout.to_grid(row * lengths), layout.cell, facts=facts)

    def _moved(self, walk: Walk, step: Step) -> Product:
        """Return the product ``r mean_h (G_h)^+ * (A_h diag(w_h))`` of a step."""
        weights = self._weights(walk, step)

        def product(operation: AttentionOperation, row: torch.Tensor) -> torch.Tensor:
            result = operation.new_row(row)
            for block in operation.row_blocks(row):
                if block.gradient is None:
                    raise UnsupportedMethodError(f"{operation.name} has no gradients.")
                attn, gradient = block.attn, block.gradient.clamp_(min=0)
                if self.variant == "mean":
                    attn, gradient = (each.mean(dim=1, keepdim=True) for each in (attn, gradient))
                moved = torch.einsum("bq,bhqk->bhk", row[:, block.rows], attn * gradient)
                result += (moved * weights).mean(dim=1)
            return result

        return product

    def _weights(self, walk: Walk, step: Step) -> torch.Tensor:
        """Return w (batch, head, token) of a step's attention; one for all heads in the variant."""
        block = block_of(walk, step)
        tokens = read(walk.record, block.before)
        if self.variant == "mean":
            return changed(tokens, read(walk.record, behind(block)))[:, None]
        values = values_of(walk, step)
        return transformation(
            torch.linalg.vector_norm(tokens, dim=-1)[:, None],
            values.head_norms(),
            values.along(tokens),
        )


def _mlp(walk: Walk, step: Step) -> torch.Tensor:
    """Return ``1 + w`` (batch, token) of the MLP behind a step's attention."""
    block = block_of(walk, step)
    return 1 + changed(read(walk.record, behind(block)), read(walk.record, block.after))


def behind(block: Block) -> Site:
    """Return where the tokens between attention and MLP are read."""
    assert block.between is not None  # noqa: S101  others are refused
    return block.between


def changed(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Return w (batch, token) of tokens (batch, token, channel) before and after a module."""
    start, end = (torch.linalg.vector_norm(tokens, dim=-1) for tokens in (before, after))
    return transformation(start, end, (before * after).sum(dim=-1))


def transformation(
    before: torch.Tensor, after: torch.Tensor, products: torch.Tensor
) -> torch.Tensor:
    """Return ``w_i = (|E~_i| / |E_i|) softmax_i(cos(E_i, E~_i))``, tokens in the last axis.

    From the lengths before and after, and the inner products of E and E~.
    """
    tiny = torch.finfo(before.dtype).tiny
    cosines = products / (before * after).clamp(min=tiny)
    return after / before.clamp(min=tiny) * cosines.softmax(dim=-1)
