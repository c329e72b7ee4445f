"""Plain vision transformers of timm: ViT, AugReg, DINOv2, DeiT III, CLIP, SigLIP, FlexiViT, ...

Tokens run ``[class?, registers..., patches in row-major order]`` through all blocks. The head reads
the class token, an average, or an attention pool with a latent query.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.patches import patch_layout
from visattn.adapters.pooling import pooled_readout, pooling_step
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.adapters.stream import Stream, timm_stream
from visattn.images import Size
from visattn.tokens.chain import Chain, Readout, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.step import Step


def residual_blocks(blocks: Any, attention: str = "attn") -> tuple[tuple[str, ...], ...] | Refusal:
    """Name the attention operations of a list of timm transformer blocks, or say why not."""
    found = []
    for index, block in enumerate(blocks):
        kind = type(block).__name__
        if any(type(part).__name__.startswith("Diff") for part in block.modules()):
            return Refusal(
                f"blocks.{index} ({kind}) computes differential attention, the difference of two "
                "softmax maps, which is not a row-stochastic operator over tokens"
            )
        if hasattr(block, "attns"):
            count = len(block.attns)
            found.append(tuple(f"blocks.{index}.attns.{i}.{attention}" for i in range(count)))
        elif hasattr(block, attention):
            found.append((f"blocks.{index}.{attention}",))
        else:
            found.append((f"blocks.{index}",))
    return tuple(found)


def token_cam_site(blocks: Any) -> Site:
    """Return the tokens that enter the last attention: the latest that still reach every head.

    Patch tokens behind the last block get no gradient in a model that pools its class token.
    """
    last = len(blocks) - 1
    kind = type(blocks[last]).__name__
    for norm in ("norm1", "in_norm"):
        if hasattr(blocks[last], norm) and "Post" not in kind:
            return Site(f"blocks.{last}.{norm}", "output", "tokens")
    return Site(f"blocks.{last}", "input", "tokens")


@ADAPTERS.register("vision_transformer")
class VisionTransformerAdapter(Adapter):
    """timm ``VisionTransformer`` without a distillation token."""

    family = "vision_transformer"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's class and its subclasses, except distilled and hybrid ones."""
        return is_instance(
            module, "timm.models.vision_transformer", "VisionTransformer"
        ) and not hasattr(module, "dist_token")

    @property
    def vit(self) -> Any:
        """The module, whose attributes timm defines."""
        return self.module

    def prefix(self) -> tuple[str, ...]:
        """Name the prefix tokens in their order."""
        registers = tuple(f"register {i + 1}" for i in range(self.vit.num_reg_tokens))
        return ("class", *registers) if self.vit.has_class_token else registers

    def layout(self, size: Size) -> TokenLayout:
        """Return the layout of the token stream for an input of ``size``."""
        return TokenLayout(self.prefix(), *self.grid(size))

    def grid(self, size: Size) -> tuple[Size, tuple[float, float]]:
        """Return the patch grid, from the patch embedding's own arithmetic."""
        layout = patch_layout(self.vit.patch_embed, size)
        return layout.grid, layout.cell

    def chain(self, size: Size) -> Chain | Refusal:
        """Return the blocks in order and the read-out of the pooling really used."""
        blocks = residual_blocks(self.vit.blocks)
        if isinstance(blocks, Refusal):
            return blocks
        layout = self.layout(size)
        steps = tuple(Step.attention(layout, *names) for names in blocks)
        if getattr(self.vit, "attn_pool", None) is None:
            return Chain(steps, layout, self.readout(layout))
        return Chain(steps, layout, *self.attention_pool(layout, self.pools_prefix))

    @property
    def pools_prefix(self) -> bool:
        """Whether the head pools prefix tokens along with patch tokens."""
        return bool(getattr(self.vit, "pool_include_prefix", False))

    def readout(self, layout: TokenLayout) -> Readout | Refusal:
        """Return which tokens the head reads."""
        return pooled_readout(layout, self.vit.global_pool, self.pools_prefix)

    def attention_pool(self, layout: TokenLayout, with_prefix: bool) -> tuple[Readout, Step]:
        """Return the read-out of an attention-pooling head, its latent query or all tokens."""
        pool = self.vit.attn_pool
        first = 0 if with_prefix else len(layout.prefix)
        latents = getattr(pool, "latent_len", None)
        queries = latents or (layout.tokens if with_prefix else layout.patches)
        probe = TokenLayout((), Size(1, queries), layout.cell)
        row = probe.one(0) if pool.pool == "token" else probe.uniform()
        what = "latent query" if latents else "refined tokens"
        readout = Readout(f"attention pool ({what})", row)
        return readout, pooling_step("attn_pool", layout, queries, first)

    def cam_site(self) -> Site | Refusal:
        """Return the normalised tokens that enter the last attention."""
        return token_cam_site(self.vit.blocks)

    def stream(self) -> Stream | Refusal:
        """Return where blocks are read; only in plain ViTs do tokens carry their positions."""
        blocks = residual_blocks(self.vit.blocks)
        if isinstance(blocks, Refusal):
            return blocks
        plain = self.family in ("vision_transformer", "deit")
        rotary = getattr(self.vit, "rope", None) is not None
        unpooled = 0 if self.pools_prefix else len(self.prefix())
        return timm_stream(self.vit, blocks, plain and not rotary, unpooled)

    def block_sites(self) -> tuple[Site | None, ...]:
        """Return the output of every block."""
        count = len(self.vit.blocks)
        return tuple(Site(f"blocks.{i}", "output", "tokens", norm=True) for i in range(count))
