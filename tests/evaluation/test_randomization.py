"""Random copies of models: which layers, in which order, and the original untouched."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import timm
import torch
from torch import nn

import visattn
from visattn.errors import ConfigError, ModelError
from visattn.evaluation import randomization
from visattn.evaluation.randomization import Randomization
from visattn.models.digest import weights_digest


def vit(**changes: Any) -> visattn.Model:
    torch.manual_seed(0)
    options = {"embed_dim": 12, "depth": 3, "num_heads": 2, "num_classes": 4} | changes
    module = timm.create_model("vit_tiny_patch16_224", img_size=(32, 48), **options)
    return visattn.load_model(module)


TENSOR = torch.linspace(-1, 1, 3 * 32 * 48).reshape(3, 32, 48)


def changed(model: visattn.Model, module: nn.Module) -> set[str]:
    """Return which layers of a model have other tensors in a copy."""
    own, others = model.module.state_dict(), module.state_dict()
    names = [name for name in own if not torch.equal(own[name], others[name])]
    return {".".join(n.split(".")[: 2 if n.startswith("blocks") else 1]) for n in names}


def test_layers_are_blocks_in_the_order_in_which_they_run():
    names = [layer.name for layer in Randomization.of(vit(), TENSOR, 0).layers]
    blocks = [f"blocks.{number}" for number in range(3)]
    assert names == [".", "patch_embed", *blocks, "norm", "head"]


class Backwards(nn.Module):
    """A network whose head is defined first."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.stem = nn.Conv2d(3, 4, 2, 2)
        self.gate = nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.gate * self.stem(x).mean(dim=(2, 3)))


def test_the_order_is_that_of_running_not_of_definition():
    model = visattn.load_model(Backwards())
    drawn = Randomization.of(model, torch.ones(3, 4, 4), 0)
    assert [layer.name for layer in drawn.layers] == [".", "stem", "head"]
    first = next(drawn.models(model, "top_down", 3)).module
    assert torch.equal(first.stem.weight, model.module.stem.weight)
    assert not torch.equal(first.head.weight, model.module.head.weight)
    assert abs(drawn.module.gate.item()) != 2.0


def test_every_layer_and_token_is_drawn_anew_in_the_end():
    model = vit(class_token=True)
    nn.init.normal_(model.module.cls_token, 3, 0.1)
    *_, last = Randomization.of(model, TENSOR, 0).models(model, "top_down", 4)
    everything = {"cls_token", "pos_embed", "patch_embed", "head", "blocks.0", "blocks.2"}
    assert everything <= changed(model, last.module)
    token = last.module.cls_token.detach()
    assert float(token.mean()) == pytest.approx(3, abs=0.2)
    assert 0.03 < float(token.std()) < 0.3


def test_stages_grow_from_the_head_from_the_input_or_stand_alone():
    model = vit()
    drawn = Randomization.of(model, TENSOR, 0)

    def steps(order: str, count: int) -> list[list[str]]:
        return [[layer.name for layer in stage] for stage in drawn.stages(order, count)]

    blocks = ["blocks.2", "blocks.1", "blocks.0"]
    assert steps("top_down", 3) == [
        ["head", "norm", "blocks.2"],
        ["head", "norm", *blocks[:3]],
        ["head", "norm", *blocks, "patch_embed", "."],
    ]
    assert steps("bottom_up", 7)[0] == ["."]
    assert [len(stage) for stage in steps("top_down", 100)] == [1, 2, 3, 4, 5, 6, 7]
    alone = steps("independent", 3)
    assert sorted(name for stage in alone for name in stage) == sorted(
        layer.name for layer in drawn.layers
    )
    with pytest.raises(ConfigError, match="top_down"):
        drawn.stages("sideways", 3)


def test_a_stage_changes_its_layers_alone_and_shares_the_others():
    model = vit()
    first, second, _ = Randomization.of(model, TENSOR, 0).models(model, "top_down", 3)
    assert changed(model, first.module) <= {"head", "norm", "blocks.2"}
    assert "blocks.2" in changed(model, first.module)
    assert first.module.patch_embed.proj.weight is model.module.patch_embed.proj.weight
    # What both stages have random is the same, in the same memory.
    assert first.module.head.weight is second.module.head.weight
    assert first.adapter.module is first.module
    assert type(first.adapter) is type(model.adapter)
    assert first.adapter.module is not model.module


def test_numbers_depend_on_the_seed_alone():
    def head(seed: int, order: str) -> torch.Tensor:
        model = vit()
        models = list(Randomization.of(model, TENSOR, seed).models(model, order, 7))
        return models[0 if order != "bottom_up" else -1].module.head.weight

    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one = head(0, "top_down")
    assert torch.equal(one, head(0, "bottom_up"))
    assert torch.equal(one, head(0, "independent"))
    assert not torch.equal(one, head(1, "top_down"))
    vit()
    torch.random.set_rng_state(before)
    model = vit()
    before = torch.random.get_rng_state()
    list(Randomization.of(model, TENSOR, 0).models(model, "top_down", 2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_the_statistics_of_a_batchnorm_are_set_back_and_frozen_ones_stay():
    from torchvision.ops import FrozenBatchNorm2d

    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), FrozenBatchNorm2d(4))
    module[1].running_mean.fill_(7)
    module[2].running_mean.fill_(7)
    model = visattn.load_model(module)
    drawn = Randomization.of(model, torch.ones(3, 8, 8), 0)
    assert float(drawn.module[1].running_mean.abs().max()) == 0
    assert float(drawn.module[2].running_mean.min()) == 7
    assert float(module[1].running_mean.min()) == 7


def test_attention_of_torch_and_reparametrised_weights_are_drawn():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
            self.last = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x.flatten(2).transpose(1, 2)
            return self.last(self.attention(x, x, x)[0].mean(dim=1))

    model = visattn.load_model(Net())
    drawn = Randomization.of(model, torch.ones(4, 2, 3), 0)
    own, others = model.module.state_dict(), drawn.module.state_dict()
    matrices = [name for name in own if own[name].ndim > 1]
    same = [name for name in matrices if torch.equal(own[name], others[name])]
    assert len(matrices) >= 3
    assert same == []


def test_the_copy_is_remembered_until_weights_or_seed_change_and_dies_with_the_module():
    model = vit()
    known = Randomization.of(model, TENSOR, 0)
    assert Randomization.of(model, TENSOR, 0) is known
    (first,) = list(known.models(model, "top_down", 1))
    assert next(known.models(model, "top_down", 1)) is first
    assert Randomization.of(model, TENSOR, 1) is not known
    known = Randomization.of(model, TENSOR, 0)
    with torch.no_grad():
        model.module.head.weight += 1
    assert Randomization.of(model, TENSOR, 0) is not known
    last = weakref.ref(Randomization.of(model, TENSOR, 0))
    del known, first, model
    gc.collect()
    assert last() is None


def test_the_original_is_bitwise_unchanged_also_after_an_exception(monkeypatch):
    model = vit()
    model.module.train()
    digest, modes = weights_digest(model.module), [m.training for m in model.module.modules()]
    list(Randomization.of(model, TENSOR, 0).models(model, "top_down", 4))
    draw, calls = randomization._draw, []

    def failing(*arguments: Any) -> None:
        draw(*arguments)
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(randomization, "_draw", failing)
    with pytest.raises(KeyboardInterrupt):
        Randomization.of(model, TENSOR, 1)
    assert weights_digest(model.module) == digest
    assert [m.training for m in model.module.modules()] == modes
    assert not any(part._forward_pre_hooks for part in model.module.modules())


def test_a_module_that_cannot_be_copied_is_named():
    module = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    module.made = module[1].weight * 2  # no leaf: torch refuses to copy it
    with pytest.raises(ModelError, match="Sequential cannot be copied"):
        Randomization.of(visattn.load_model(module), torch.ones(3, 1, 1), 0)
