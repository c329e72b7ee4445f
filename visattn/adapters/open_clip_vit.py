"""Image towers of open_clip: the vision transformer of CLIP (Radford et al., ICML 2021) and CoCa.

Tokens run ``[class, patches in row-major order]``. CoCa (Yu et al., TMLR 2022) pools by attention.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.pooling import pooled_readout, pooling_step
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.adapters.stream import Block, Stream
from visattn.images import Size
from visattn.tokens.chain import Chain, Readout, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.step import Step
from visattn.tokens.strided import conv_layout


@ADAPTERS.register("open_clip_vit")
class OpenClipVitAdapter(Adapter):
    """open_clip ``VisionTransformer``; its output is the image embedding."""

    family = "open_clip_vit"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match open_clip's class and its subclasses."""
        return is_instance(module, "open_clip.transformer", "VisionTransformer")

    @property
    def vit(self) -> Any:
        """The module, whose attributes open_clip defines."""
        return self.module

    @property
    def num_classes(self) -> int | None:
        """None of the outputs is a class."""
        return 0

    @property
    def num_features(self) -> int | None:
        """Number of channels of the stream."""
        return int(self.vit.conv1.out_channels)

    def layout(self, size: Size) -> TokenLayout:
        """Return the class token and the patches of an input of ``size``."""
        return conv_layout(self.vit.conv1, size, ("class",))

    def block_sites(self) -> tuple[Site | None, ...]:
        """Return the output of every block."""
        names = (f"transformer.resblocks.{i}" for i in range(len(self.vit.transformer.resblocks)))
        return tuple(Site(name, "output", "tokens", norm=True) for name in names)

    def chain(self, size: Size) -> Chain | Refusal:
        """Return the blocks in order and the read-out of the pooling really used."""
        layout = self.layout(size)
        steps = tuple(
            Step.attention(layout, f"transformer.resblocks.{index}.attn")
            for index in range(len(self.vit.transformer.resblocks))
        )
        if self.vit.attn_pool is None:
            return Chain(steps, layout, readout(layout, self.vit.pool_type))
        if self.vit.attn_pool_contrastive is not None:
            return Refusal(
                f"the tower pools twice by attention ({self.vit.attn_pool_type}), which is not "
                "walked; choose a method that needs only inputs and outputs"
            )
        return Chain(steps, layout, *self.attention_pool(layout))

    def attention_pool(self, layout: TokenLayout) -> tuple[Readout | Refusal, Step]:
        """Return which latent queries of the attention pool are read, and the pool."""
        queries = int(self.vit.attn_pool.query.shape[0])
        latents = TokenLayout(("class",), Size(1, queries - 1), layout.cell)
        found = readout(latents, self.vit.pool_type)
        if isinstance(found, Readout):
            words = "its first query" if self.vit.pool_type == "tok" else "all but its first query"
            found = Readout(f"attention pool ({words})", found.row)
        return found, pooling_step("attn_pool.attn", layout, queries, 0)

    def cam_site(self) -> Site:
        """Return the normalised tokens that enter the last attention."""
        last = len(self.vit.transformer.resblocks) - 1
        return Site(f"transformer.resblocks.{last}.ln_1", "output", "tokens")

    def stream(self) -> Stream | Refusal:
        """Return where blocks are read; positions are added before the first."""
        blocks = []
        for index, block in enumerate(self.vit.transformer.resblocks):
            name = f"transformer.resblocks.{index}"
            if not isinstance(getattr(block, "ln_attn", nn.Identity()), nn.Identity):
                return Refusal(
                    f"{name} has a norm behind its attention, so what single tokens write into the "
                    "stream does not add up"
                )
            scale = f"{name}.ls_1.gamma" if hasattr(block.ls_1, "gamma") else None
            blocks.append(Block.at(name, "ln_2", f"{name}.attn", scale))
        pool = None if self.vit.attn_pool is None else "attn_pool.attn"
        pools = self.vit.pool_type != "none"
        return Stream(tuple(blocks), self.embedded if pools else None, pool, drops=True)

    def embedded(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return what the head makes of tokens (batch, token, channel): of their mean or pool."""
        vit = self.vit
        if vit.attn_pool is None:
            pooled = vit.ln_post(tokens.mean(dim=1))
        else:
            pooled, _ = vit._global_pool(vit.ln_post(vit.attn_pool(tokens)))  # noqa: SLF001
        found: torch.Tensor = pooled if vit.proj is None else pooled @ vit.proj
        return found


def readout(layout: TokenLayout, pool: str) -> Readout | Refusal:
    """Return the read-out of open_clip's ``tok``, ``avg`` and ``none`` pooling."""
    return pooled_readout(layout, {"tok": "token"}.get(pool, pool))
