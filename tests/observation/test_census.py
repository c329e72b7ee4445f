"""The census of models on the meta device agrees with what a real pass computes."""

from __future__ import annotations

import timm
import torch
from torch import nn

from tests import zoo
from visattn.observation import observe
from visattn.observation.census import census


def on_meta(name: str) -> tuple[nn.Module, torch.Tensor]:
    with torch.device("meta"):
        module = timm.create_model(name).eval()
        size = timm.data.resolve_model_data_config(module)["input_size"]
        return module, torch.zeros(1, *size)


def test_it_agrees_with_a_real_pass() -> None:
    module, x = zoo.unfuse(zoo.build("registers")), zoo.images(1)
    real = observe(module, x).operations
    with torch.device("meta"):
        found = census(module.to("meta"), x.to("meta"))
    assert [(op.name, op.shape, op.fused) for op in found.operations] == [
        (op.name, op.shape, op.fused) for op in real
    ]
    assert not found.gates
    assert not found.others
    assert not found.unexplained


def test_gates_and_other_softmaxes_of_convolutional_networks() -> None:
    resnest, gc = (census(*on_meta(name)) for name in ("resnest14d", "gcresnext26ts"))
    assert {gate.kind for gate in resnest.gates} == {"SplitAttn"}
    assert {other.kind for other in resnest.others} == {"channel gate softmax"}
    assert {gate.kind for gate in gc.gates} == {"GlobalContext"}
    assert {other.kind for other in gc.others} == {"spatial pooling softmax"}
    assert len(gc.others) == len(gc.gates)
    for found in (resnest, gc):
        assert not found.operations
        assert not found.unexplained


def test_channel_attention_and_talking_heads_are_told_apart() -> None:
    xcit = census(*on_meta("xcit_nano_12_p16_224"))
    assert [op.axis for op in xcit.operations] == ["channel"] * 12 + ["token"] * 2
    cait = census(*on_meta("cait_xxs24_224"))
    assert [op.mixed for op in cait.operations] == [True] * 24 + [False] * 2
    convit = census(*on_meta("convit_tiny"))
    assert [op.normalizer for op in convit.operations] == ["none"] * 10 + ["softmax"] * 2


def test_attention_classes_of_which_nothing_is_seen_are_listed() -> None:
    class SilentAttention(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    found = census(nn.Sequential(SilentAttention()), torch.zeros(1, 3, 4, 4))
    assert found.unexplained == ("SilentAttention",)


def test_classes_that_compute_no_softmax_are_called_by_their_name() -> None:
    found = census(*on_meta("swiftformer_xs"))
    assert {other.kind for other in found.others} == {"additive attention"}
    assert not found.unexplained
