"""One small member of timm for each way of computing attention: capture, proof and gradients."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
import timm
import torch
from torch import nn

from visattn.observation import Observation, observe, prove


class Member(NamedTuple):
    operations: int
    explicit: int | None = 0
    others: int = 0
    options: Mapping[str, Any] = MappingProxyType({})


SMALL_IMAGE = {"img_size": 64}
MEMBERS: dict[str, Member] = {
    "cait_xxs24_224": Member(4, 2, options={"depth": 2, **SMALL_IMAGE}),
    "convit_tiny": Member(12, 10, options=SMALL_IMAGE),
    "volo_d1_224": Member(20, 4, options=SMALL_IMAGE),
    "efficientformerv2_s0": Member(5, 4),
    "levit_128s": Member(5, options={"depth": (1, 1, 1)}),
    "levit_conv_128s": Member(5, options={"depth": (1, 1, 1)}),
    "efficientvit_m0": Member(24),
    "xcit_nano_12_p16_224": Member(4, options={"depth": 2}),
    "edgenext_xx_small": Member(3),
    "davit_tiny": Member(8, options={"depths": (1, 1, 1, 1)}),
    "swin_tiny_patch4_window7_224": Member(5, options={"depths": (2, 1, 1, 1)}),
    "swinv2_tiny_window8_256": Member(5, options={"depths": (2, 1, 1, 1), "img_size": 128}),
    "swinv2_cr_tiny_ns_224": Member(5, options={"depths": (2, 1, 1, 1)}),
    "gcvit_xxtiny": Member(12),
    "mvitv2_tiny": Member(10, 10, options=SMALL_IMAGE),
    "halonet26t": Member(3),
    "botnet26t_256": Member(3),
    "tnt_s_patch16_224": Member(2, options={"depth": 1}),
    "crossvit_9_240": Member(8, options={"depth": ((1, 1, 0), (1, 1, 0))}),
    "shvit_s1": Member(9),
    "visformer_tiny": Member(8, None),
    "vit_dlittle_patch16_reg1_gap_256": Member(4, options={"depth": 2, "img_size": 64}),
    "hiera_tiny_224": Member(4, options={"stages": (1, 1, 1, 1)}),
    "resnet50_clip": Member(1),
    "csatv2": Member(4, others=14),
    "mobilevitv2_050": Member(0, others=9),
    "coat_lite_tiny": Member(0, others=8),
    "lambda_resnet26t": Member(0, others=3),
    "efficientvit_b0": Member(0, others=4),
}


def built(name: str) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    options = MEMBERS[name].options
    module = timm.create_model(name, num_classes=5, **options).eval()
    size = timm.data.resolve_model_data_config(module)["input_size"]
    side = options.get("img_size", size[-1])
    with torch.no_grad():
        for part, weight in module.named_parameters():
            if part.startswith("head"):
                weight.normal_(0.0, 0.1)
            if weight.ndim == 1 and ("norm" in part or "bn" in part or "gamma" in part):
                weight.normal_(1.0 if part.endswith("weight") else 0.0, 0.2)
    return module, torch.randn(1, 3, side, side)


def counted(seen: Observation) -> Member:
    kept = sum(operation.explicit is not None for operation in seen.operations)
    return Member(len(seen.operations), kept, len(seen.others))


@pytest.mark.parametrize("name", [name for name, known in MEMBERS.items() if known.operations])
def test_every_form_of_timm_is_captured_and_proven(name: str) -> None:
    module, x = built(name)
    prove(module, x).require()
    seen = observe(module, x, score=lambda outputs: outputs[:, 0])
    found, declared = counted(seen), MEMBERS[name]
    assert (found.operations, found.others) == (declared.operations, declared.others)
    assert declared.explicit in (found.explicit, None)
    names = [operation.name for operation in seen.operations]
    assert len(set(names)) == len(names)
    for operation in seen.operations:
        assert operation.normalizer == "softmax"
        block = next(operation.row_blocks())
        assert block.gradient is not None
        assert block.gradient.shape == block.attn.shape
        assert float(block.gradient.abs().max()) > 0


@pytest.mark.parametrize("name", [name for name, known in MEMBERS.items() if not known.operations])
def test_what_is_no_softmax_attention_is_said(name: str) -> None:
    from visattn.errors import CaptureError

    module, x = built(name)
    with pytest.raises(CaptureError, match=r"Seen instead: (linear|spatial)"):
        observe(module, x)
    assert len(observe(module, x, attention=False).others) == 0
