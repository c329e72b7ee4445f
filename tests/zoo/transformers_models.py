"""Models of transformers, under sdpa and eager attention; none where it is not installed.

Their own initial weights would leave attention uniform, so a wider initialisation is configured.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import nn

from tests.zoo import Member

SIZE = (48, 80)
BODY: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 48,
    "image_size": SIZE, "patch_size": 16, "initializer_range": 0.03,
}  # fmt: skip
SWIN: dict[str, Any] = {
    "patch_size": 4, "embed_dim": 16, "depths": [2, 2, 2], "num_heads": [1, 2, 2],
    "window_size": 4, "num_labels": 5, "initializer_range": 0.04,
}  # fmt: skip
PVT: dict[str, Any] = {
    "depths": [1, 2, 1, 1], "hidden_sizes": [8, 16, 16, 32], "num_attention_heads": [1, 2, 2, 4],
    "num_labels": 5, "initializer_range": 0.1,
}  # fmt: skip


def make(kind: str, config: str, attention: str | None = None, **options: Any) -> nn.Module:
    """Return a model of the library's class ``kind``; its attention is fused unless given."""
    import transformers

    module = getattr(transformers, kind)(getattr(transformers, config)(**options)).eval()
    assert isinstance(module, nn.Module)
    for part in module.modules():
        if attention is not None and hasattr(part, "config"):
            part.config._attn_implementation = attention
    return module


def softened(module: nn.Module) -> nn.Module:
    """Take back some of the sharpening of `zoo.build`, where the library begins with more."""
    with torch.no_grad():
        for name, part in module.named_modules():
            if name.endswith("q_proj"):
                part.weight.mul_(0.15)
    return module


def vit(kind: str, config: str, attention: str | None = None, **changes: Any) -> nn.Module:
    return make(kind, config, attention, **{**BODY, **changes})


def clip(kind: str, **changes: Any) -> nn.Module:
    towers = {"vision_config": {**BODY, "image_size": 48, **changes}, "num_labels": 5}
    if kind == "CLIPForImageClassification":
        return softened(make(kind, "CLIPConfig", **towers))
    vision = {**BODY, "image_size": 48, "projection_dim": 12, **changes}
    return softened(interpolating(make(kind, "CLIPVisionConfig", **vision)))


def interpolating(module: nn.Module) -> nn.Module:
    """Let a model built for a square take the other size, as loading by name does."""
    from visattn.models.transformers import _interpolate_positions

    _interpolate_positions(module)
    return module


def siglip(kind: str) -> nn.Module:
    if kind == "SiglipVisionModel":
        return softened(interpolating(vit(kind, "SiglipVisionConfig", image_size=SIZE[1])))
    towers = {"vision_config": {**BODY, "image_size": 80}, "num_labels": 5}
    return softened(make(kind, "SiglipConfig", **towers))


def mae() -> nn.Module:
    from visattn.adapters.transformers_vit import keep_order

    module = vit("ViTMAEModel", "ViTMAEConfig", mask_ratio=0.0, image_size=48)
    module.register_forward_pre_hook(keep_order, with_kwargs=True)
    return interpolating(module)


def swin(kind: str, config: str, size: tuple[int, int], attention: str | None = None) -> nn.Module:
    return make(kind, config, attention, image_size=size, **SWIN)


def pvt(kind: str, config: str, attention: str | None = None, **changes: Any) -> nn.Module:
    return make(kind, config, attention, **{**PVT, **changes})


def detr(attention: str | None = None) -> nn.Module:
    import transformers

    backbone = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 8, 8], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage4"],
    )  # fmt: skip
    module = make(
        "DetrForObjectDetection", "DetrConfig", attention, use_timm_backbone=False,
        use_pretrained_backbone=False, backbone=None, backbone_config=backbone, d_model=16,
        encoder_layers=2, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=32, decoder_ffn_dim=32, num_queries=4, num_labels=5, init_std=0.3,
        init_xavier_std=1.0,
    )  # fmt: skip
    return softened(module)


def timm_inside() -> nn.Module:
    import transformers

    config = transformers.TimmWrapperConfig(
        architecture="test_vit", num_labels=5, model_args={"img_size": SIZE, "patch_size": 16}
    )
    return transformers.TimmWrapperForImageClassification(config).eval()


def tokens(norm: str) -> tuple[str, str, str]:
    return (norm, "output", "tokens")


def plain() -> dict[str, Member]:
    return {
        "vit": Member(
            lambda: vit("ViTForImageClassification", "ViTConfig", num_labels=5),
            SIZE, tokens("vit.layernorm"),
        ),
        "vit_eager": Member(
            lambda: vit("ViTModel", "ViTConfig", "eager"), SIZE, tokens("layernorm")
        ),
        "deit": Member(
            lambda: vit("DeiTForImageClassificationWithTeacher", "DeiTConfig", num_labels=5),
            SIZE, tokens("deit.layernorm"),
        ),
        "beit_mean": Member(
            lambda: vit(
                "BeitForImageClassification", "BeitConfig", num_labels=5,
                layer_scale_init_value=1.0, use_relative_position_bias=True, out_indices=[1],
            ),
            SIZE, tokens("beit.layernorm"),
        ),
        "beit_class": Member(
            lambda: vit(
                "BeitModel", "BeitConfig", "eager", use_mean_pooling=False, out_indices=[1],
                use_shared_relative_position_bias=True, layer_scale_init_value=1.0,
            ),
            SIZE, tokens("layernorm"),
        ),
    }  # fmt: skip


def dino_and_dual() -> dict[str, Member]:
    return {
        "dinov2": Member(
            lambda: vit(
                "Dinov2ForImageClassification", "Dinov2Config", num_labels=5, image_size=64
            ),
            SIZE, tokens("dinov2.layernorm"),
        ),
        "dinov2_registers": Member(
            lambda: vit(
                "Dinov2WithRegistersForImageClassification", "Dinov2WithRegistersConfig", "eager",
                num_labels=5, image_size=64, num_register_tokens=3,
            ),
            SIZE, tokens("dinov2_with_registers.layernorm"),
        ),
        "dinov3": Member(
            lambda: vit("DINOv3ViTModel", "DINOv3ViTConfig", num_register_tokens=2),
            SIZE, tokens("norm"),
        ),
        "mae": Member(mae, SIZE, tokens("layernorm")),
        "clip": Member(
            lambda: clip("CLIPVisionModelWithProjection"),
            SIZE, tokens("vision_model.encoder.layers.2"),
        ),
        "clip_mean": Member(
            lambda: clip("CLIPForImageClassification"),
            (48, 48), tokens("vision_model.encoder.layers.2"),
        ),
        "siglip": Member(lambda: siglip("SiglipVisionModel"), SIZE),
        "siglip_mean": Member(
            lambda: siglip("SiglipForImageClassification"),
            (80, 80), tokens("vision_model.post_layernorm"),
        ),
        "timm": Member(timm_inside, SIZE, tokens("timm_model.norm")),
    }  # fmt: skip


def hierarchical_and_detr() -> dict[str, Member]:
    return {
        "swin": Member(
            lambda: swin("SwinForImageClassification", "SwinConfig", (64, 96)),
            (64, 96), tokens("swin.layernorm"),
        ),
        "swin_padded": Member(
            lambda: swin("SwinModel", "SwinConfig", (58, 100), "eager"),
            (58, 100), tokens("layernorm"),
        ),
        "swinv2": Member(
            lambda: swin("Swinv2ForImageClassification", "Swinv2Config", (60, 100)),
            (60, 100), tokens("swinv2.layernorm"),
        ),
        "pvt": Member(
            lambda: pvt("PvtForImageClassification", "PvtConfig", image_size=64),
            (32, 128), tokens("pvt.encoder.layer_norm"),
        ),
        "segformer": Member(
            lambda: softened(pvt("SegformerForImageClassification", "SegformerConfig")),
            (64, 96), tokens("segformer.stages.3.layer_norm"), reach=1,
        ),
        "detr": Member(detr, (96, 160), reach=1),
    }  # fmt: skip


def members() -> dict[str, Member]:
    every = {**plain(), **dino_and_dual(), **hierarchical_and_detr()}
    return {f"transformers_{name}": member for name, member in every.items()}


MEMBERS = members() if importlib.util.find_spec("transformers") else {}
