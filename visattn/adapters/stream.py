"""Where the token stream of a plain transformer can be read, and its head applied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from visattn.adapters.site import Site
from visattn.tokens.chain import Refusal

Head = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Block:
    """One pre-norm residual block, ``x' = x + s W_O concat_h(A_h V_h)``, ``x'' = x' + MLP(x')``.

    Attributes:
        before: tokens x (batch, token, channel) that enter.
        between: tokens x' between attention and MLP, or None where both run side by side.
        after: tokens x'' that leave.
        operations: names of the attention operations.
        scale: dotted name of the LayerScale weights s (channel,) behind the attention, or None.
    """

    before: Site
    between: Site | None
    after: Site
    operations: tuple[str, ...]
    scale: str | None = None

    @classmethod
    def at(cls, place: str, norm: str, operation: str, scale: str | None = None) -> Block:
        """Return the block that is the module ``place``, its MLP behind the part ``norm``."""
        return cls(
            Site(place, "input", "tokens"),
            Site(f"{place}.{norm}", "input", "tokens"),
            Site(place, "output", "tokens"),
            (operation,),
            scale,
        )


@dataclass(frozen=True, eq=False)
class Stream:
    """The token stream of a transformer whose blocks are all alike in shape.

    Attributes:
        blocks: first block first.
        head: what the model does with any tokens (batch, token, channel) that have its last
            stream's channels: pool them as LeGrad does (mean over all tokens, or the model's own
            attention pool), norm, classify. None where it is not known.
        pool: name of the attention-pooling operation in ``head``, or None for a mean.
        drops: whether patch tokens may be left out at the first block: positions are part of the
            tokens by then and every token is treated alike.
    """

    blocks: tuple[Block, ...]
    head: Head | None = None
    pool: str | None = None
    drops: bool = False


def timm_stream(
    vit: Any, operations: tuple[tuple[str, ...], ...], drops: bool, unpooled: int = 0
) -> Stream | Refusal:
    """Return the stream of a timm transformer with ``blocks``, ``norm``, ``fc_norm``, ``head``.

    An attention pool leaves out the first ``unpooled`` tokens.
    """
    found = []
    for index, (block, names) in enumerate(zip(vit.blocks, operations, strict=True)):
        side_by_side = hasattr(block, "in_norm")
        known = side_by_side or (hasattr(block, "norm1") and hasattr(block, "norm2"))
        kind = type(block).__name__
        if "Post" in kind or not known:
            return Refusal(
                f"blocks.{index} ({kind}) is not a pre-norm residual block, so its branches do not "
                "add up as the method's formula says"
            )
        place = f"blocks.{index}"
        between = Site(f"{place}.norm2", "input", "tokens")
        scales = [
            f"{place}.{n}" for n in ("ls1.gamma", "gamma_1", "ls.gamma") if _reaches(block, n)
        ]
        found.append(
            Block(
                Site(place, "input", "tokens"),
                None if side_by_side or len(names) > 1 else between,
                Site(place, "output", "tokens"),
                names,
                scales[0] if scales else None,
            )
        )
    pool = getattr(vit, "attn_pool", None)
    return Stream(
        tuple(found), timm_head(vit, unpooled), None if pool is None else "attn_pool", drops
    )


def timm_head(vit: Any, unpooled: int = 0) -> Head:
    """Return timm's head behind a mean over all tokens, or behind its attention pool.

    The pool reads what it reads in the model: not the first ``unpooled`` tokens.
    """
    pool = getattr(vit, "attn_pool", None)

    def head(tokens: torch.Tensor) -> torch.Tensor:
        # A norm of all tokens stands before the attention pool, a norm of the mean behind a mean.
        pooled = tokens.mean(dim=1) if pool is None else pool(vit.norm(tokens)[:, unpooled:])
        pooled = vit.norm(pooled) if pool is None else pooled
        pooled = vit.fc_norm(pooled)
        classified: torch.Tensor = vit.head(pooled)
        if getattr(vit, "head_dist", None) is not None:
            classified = (classified + vit.head_dist(pooled)) / 2
        return classified

    return head


def _reaches(part: Any, name: str) -> bool:
    """Return whether a dotted attribute exists and is not None."""
    for step in name.split("."):
        part = getattr(part, step, None)
    return part is not None
