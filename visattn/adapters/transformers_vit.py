"""Plain vision transformers of transformers: ViT, DeiT, BEiT, DINOv2, DINOv3, MAE, CLIP, SigLIP.

Tokens run ``[class?, distillation?, registers..., patches in row-major order]`` through all layers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from visattn.adapters.pooling import pooled_readout, pooling_step
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.adapters.stream import Block, Head, Stream
from visattn.adapters.transformers_model import TransformersAdapter
from visattn.images import Size
from visattn.tokens.chain import Chain, Readout, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.step import Step
from visattn.tokens.strided import conv_layout

CLASS_READERS = (
    "ViTModel", "ViTForImageClassification", "DeiTModel", "DeiTForImageClassification",
    "Dinov2Model", "Dinov2WithRegistersModel", "DINOv3ViTModel", "CLIPVisionModel",
    "CLIPVisionModelWithProjection",
)  # fmt: skip
MEAN_READERS = ("CLIPForImageClassification", "SiglipForImageClassification")
# What stands behind the attention of a layer, and behind the layers of a body.
SECOND_NORMS = ("layernorm_after", "norm2", "layer_norm2")
SCALES = ("layer_scale1.lambda1", "lambda_1")
LAST_NORMS = ("layernorm", "norm", "post_layernorm")


@ADAPTERS.register("transformers_vit")
class TransformersVitAdapter(TransformersAdapter):
    """ViT, DeiT, BEiT, DINOv2 with and without registers, DINOv3, ViT-MAE, CLIP, SigLIP."""

    family = "transformers_vit"
    homes = {  # noqa: RUF012 - a ClassVar of the base
        "vit": "ViT",
        "deit": "DeiT",
        "beit": "Beit",
        "dinov2": "Dinov2",
        "dinov2_with_registers": "Dinov2WithRegisters",
        "dinov3_vit": "DINOv3ViT",
        "vit_mae": "ViTMAE",
        "clip": "CLIP",
        "siglip": "Siglip",
    }

    @property
    def inside(self) -> str:
        """Dotted name of the part that holds the embeddings, empty for the module itself."""
        return "" if hasattr(self.module, "embeddings") else super().inside

    def prefix(self) -> tuple[str, ...]:
        """Name the prefix tokens, from the parameters that hold them."""
        embeddings = self.body.embeddings
        names = []
        if any(getattr(embeddings, n, None) is not None for n in ("cls_token", "class_embedding")):
            names.append("class")
        if getattr(embeddings, "distillation_token", None) is not None:
            names.append("distillation")
        registers = getattr(embeddings, "register_tokens", None)
        count = 0 if registers is None else int(registers.shape[1])
        return (*names, *(f"register {i + 1}" for i in range(count)))

    def layout(self, size: Size) -> TokenLayout:
        """Return the layout of the token stream for an input of ``size``."""
        convolutions = (p for p in self.body.embeddings.modules() if isinstance(p, nn.Conv2d))
        return conv_layout(next(convolutions), size, self.prefix())

    def attentions(self) -> list[str]:
        """Return the names of the attention modules of the body, first layer first."""
        kind = f"{self.kind(self.module)}Attention"
        return [
            f"{self.inside}{name}"
            for name, part in self.body.named_modules()
            if type(part).__name__ == kind and not name.startswith("decoder")
        ]

    def block_sites(self) -> tuple[Site | None, ...]:
        """Return the output of every layer."""
        layers = (re.match(r".*\.\d+(?=\.)", name) for name in self.attentions())
        return tuple(layer and Site(layer[0], "output", "tokens", norm=True) for layer in layers)

    def chain(self, size: Size) -> Chain | Refusal:
        """Return the layers in order and the read-out of the class that holds them."""
        if self.shuffles:
            return Refusal(
                f"{type(self.module).__name__} masks and shuffles its patches at random, so the "
                "place of a token is not known; load it by name (hf:...), which keeps all patches "
                "in their places"
            )
        layout = self.layout(size)
        steps = tuple(Step.attention(layout, name) for name in self.attentions())
        if self.pools_by_attention:
            pool = pooling_step(f"{self.inside}head.attention", layout, 1, 0)
            return Chain(steps, layout, Readout("attention pool (latent query)", ONE), pool)
        return Chain(steps, layout, self.readout(layout), aside=self.unused_pool())

    @property
    def shuffles(self) -> bool:
        """Whether a masked autoencoder does not keep all patches in their places."""
        return self.known_class.startswith("ViTMAE") and not keeps_order(self.module)

    def unused_pool(self) -> dict[str, str]:
        """Name the attention pool that SigLIP's body computes and a classifier does not read."""
        held = hasattr(getattr(self.body, "head", None), "attention")
        why = "the classifier averages patch tokens and does not read the pool"
        return {f"{self.inside}head.attention": why} if held else {}

    def readout(self, layout: TokenLayout) -> Readout | Refusal:
        """Return which tokens the head reads."""
        kind = self.known_class
        pooler: Any = getattr(self.body, "pooler", self)
        if pooler is None and self.num_classes == 0:
            return self.unread()
        if kind in ("BeitModel", "BeitForImageClassification"):
            return pooled_readout(layout, "token" if pooler.layernorm is None else "avg")
        if kind in CLASS_READERS:
            return pooled_readout(layout, "token")
        if kind in MEAN_READERS:
            return pooled_readout(layout, "avg")
        if kind == "DeiTForImageClassificationWithTeacher":
            return Readout("class and distillation token", layout.one(0, 1))
        if kind in ("Dinov2ForImageClassification", "Dinov2WithRegistersForImageClassification"):
            row = (layout.one(0) + layout.uniform()) / 2
            return Readout("class token and mean of patch tokens, half each", row)
        return self.unread()

    def cam_site(self) -> Site:
        """Return the normalised tokens that enter the last attention."""
        layer = self.attentions()[-1].rpartition(".")[0]
        parts = self.module.get_submodule(layer).named_children()
        norm = next(name for name, part in parts if isinstance(part, nn.LayerNorm))
        return Site(f"{layer}.{norm}", "output", "tokens")

    def stream(self) -> Stream | Refusal:
        """Return where layers are read; tokens carry their positions unless attention adds them."""
        if self.shuffles:
            return Refusal(f"{type(self.module).__name__} masks and shuffles its patches at random")
        blocks = []
        for attention in self.attentions():
            place = attention.rpartition(".")[0]
            layer = self.module.get_submodule(place)
            norms = [name for name, _ in layer.named_children() if name in SECOND_NORMS]
            if not norms:
                return Refusal(
                    f"{place} ({type(layer).__name__}) is not a pre-norm residual block that is "
                    "known here, so where its attention enters the stream is not known"
                )
            scale = next((n for n in SCALES if n in dict(layer.named_parameters())), None)
            blocks.append(Block.at(place, norms[0], attention, scale and f"{place}.{scale}"))
        biased = any("relative_position_bias_table" in n for n, _ in self.body.named_parameters())
        rotary = hasattr(self.body, "rope_embeddings")
        pool = f"{self.inside}head.attention" if self.pools_by_attention else None
        return Stream(tuple(blocks), self.stream_head(), pool, drops=not biased and not rotary)

    @property
    def pools_by_attention(self) -> bool:
        """Whether the output is that of an attention pool."""
        return self.known_class == "SiglipVisionModel" and bool(self.body.use_head)

    def stream_head(self) -> Head | None:
        """Return what the class does with the mean of any tokens, or None where it pools none."""
        body, outlet = self.body, self.outlet()
        norm = next(getattr(body, name) for name in LAST_NORMS if hasattr(body, name))
        if self.pools_by_attention:
            return lambda tokens: body.head(norm(tokens))
        if outlet is None:
            return None
        pooler: Any = getattr(body, "pooler", None)
        if getattr(pooler, "layernorm", None) is not None:
            norm, pooler = pooler.layernorm, None
        if self.known_class == "CLIPForImageClassification":
            norm = nn.Identity()

        def head(tokens: torch.Tensor) -> torch.Tensor:
            pooled = norm(tokens.mean(dim=1))
            found: torch.Tensor = outlet(pooled if pooler is None else pooler(pooled[:, None]))
            return found

        return head

    def outlet(self) -> Head | None:
        """Return what stands behind the pooled and normalised token, or None where none is."""
        whole: Any = self.module
        kind = self.known_class
        if kind == "DeiTForImageClassificationWithTeacher":
            both = (whole.cls_classifier, whole.distillation_classifier)
            return lambda pooled: (both[0](pooled) + both[1](pooled)) / 2
        if kind in ("Dinov2ForImageClassification", "Dinov2WithRegistersForImageClassification"):
            # It reads the class token and the mean of the patches side by side.
            return lambda pooled: whole.classifier(torch.cat([pooled, pooled], dim=1))
        if kind.endswith("ForImageClassification"):
            return whole.classifier  # type: ignore[no-any-return]
        if kind == "CLIPVisionModelWithProjection":
            return whole.visual_projection  # type: ignore[no-any-return]
        pools = getattr(self.body, "pooler", self) is not None
        return nn.Identity() if pools and kind in (*CLASS_READERS, "BeitModel") else None


ONE = torch.ones(1)


def keep_order(module: Any, given: Any, options: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Give a masked autoencoder ordered noise, as a forward pre-hook with keyword arguments.

    It sorts its patches by noise and keeps the first: with a mask ratio of 0 all, in their places.
    """
    pixels = given[0] if given else options["pixel_values"]
    patch = module.config.patch_size
    count = (pixels.shape[-2] // patch) * (pixels.shape[-1] // patch)
    noise = torch.arange(count, device=pixels.device, dtype=torch.float32)
    return given, {"noise": noise.expand(pixels.shape[0], -1), **options}


def keeps_order(module: Any) -> bool:
    """Return whether a masked autoencoder masks nothing and has `keep_order` as a hook."""
    hooks = module._forward_pre_hooks.values()  # noqa: SLF001
    return keep_order in hooks and module.config.mask_ratio == 0
