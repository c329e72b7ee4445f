"""What adapters declare, proven on the models themselves."""

from __future__ import annotations

import pytest
import torch

import visattn
from tests import zoo
from visattn.adapters import Chain, OpaqueAdapter, Readout, find_adapter
from visattn.errors import CaptureError, ModelError, UnsupportedMethodError
from visattn.images import Size

SIZE = Size(*zoo.SIZE)


def chain_of(name: str) -> Chain:
    chain = find_adapter(zoo.build(name)).chain(SIZE)
    assert isinstance(chain, Chain)
    return chain


@pytest.mark.parametrize("name", zoo.VITS)
def test_the_head_reads_exactly_the_declared_tokens(name: str) -> None:
    """The gradient of the output by the last block's tokens is non-zero where the head reads."""
    module, chain = zoo.build(name), chain_of(name)
    seen: list[torch.Tensor] = []
    module.blocks[-1].register_forward_hook(lambda _, __, output: seen.append(output))
    output = module(zoo.images(1).requires_grad_())
    (gradient,) = torch.autograd.grad((output * torch.randn_like(output)).sum(), seen)
    read = gradient[0].norm(dim=1) > 1e-9
    assert isinstance(chain.readout, Readout)
    assert chain.readout.row.sum() == pytest.approx(1)
    declared = zoo.tokens_read(chain)
    assert read.tolist() == (declared > 0).tolist()


@pytest.mark.parametrize("name", zoo.VITS)
@pytest.mark.parametrize("cell", [(0, 0), (0, 4), (2, 0), (2, 3)])
def test_the_layout_places_a_token_on_its_patch(name: str, cell: tuple[int, int]) -> None:
    """Change one patch of the input: its token's key in the first operation changes most."""
    model, layout = visattn.load_model(zoo.build(name), image_size=zoo.SIZE), chain_of(name).layout
    inputs = zoo.images(1)
    changed = inputs.clone()
    rows, cols = (slice(16 * cell[i], 16 * cell[i] + 16) for i in (0, 1))
    changed[:, :, rows, cols] += 2.0
    first, second = (visattn.capture(model, x)[0].key for x in (inputs, changed))
    moved = (first - second)[0].norm(dim=(0, 2))
    assert int(moved.argmax()) == layout.token(*cell)
    assert layout.to_grid(moved[None])[0].argmax() == cell[0] * 5 + cell[1]


@pytest.mark.parametrize("name", zoo.VITS)
def test_declared_tokens_are_the_observed_ones(name: str) -> None:
    record = visattn.capture(
        visattn.load_model(zoo.build(name), image_size=zoo.SIZE), zoo.images(1)
    )
    chain = record.chain()
    assert chain.layout.grid == zoo.GRID
    assert chain.layout.cell == (16.0, 16.0)
    assert len(chain.layers) == 3
    steps = [*chain.steps, *([chain.pool] if chain.pool else [])]
    named = {placement.operation for step in steps for placement in step.placements}
    assert named == {operation.name for operation in record}


def test_prefix_names() -> None:
    assert chain_of("distilled").layout.prefix == ("class", "distillation")
    assert chain_of("registers").layout.prefix == (
        "class", "register 1", "register 2", "register 3", "register 4",
    )  # fmt: skip
    assert chain_of("mean").layout.prefix == ()


def test_patches_of_a_row_stand_on_the_grid() -> None:
    layout = chain_of("registers").layout
    row = torch.arange(2.0 * layout.tokens).reshape(2, -1)
    assert layout.to_grid(row)[1, 2, 4] == row[1, layout.token(2, 4)]
    with pytest.raises(IndexError, match="3 x 5"):
        layout.token(3, 0)


def test_another_input_size_changes_the_grid() -> None:
    module = zoo.vit(dynamic_img_size=True)
    chain = find_adapter(module).chain(Size(64, 96))
    assert isinstance(chain, Chain)
    assert chain.layout.grid == (4, 6)
    (found,) = visattn.explain(module, zoo.images(1, (64, 96)), method="rollout")
    assert found.grid.shape == (4, 6)


@pytest.mark.parametrize("pool", ["max", "avgmax", ""])
def test_a_head_without_a_fixed_row_is_refused_with_the_repair(pool: str) -> None:
    module = zoo.vit(global_pool=pool, class_token=False)
    with pytest.raises(UnsupportedMethodError, match="query"):
        visattn.explain(module, zoo.images(1), method="rollout")
    (found,) = visattn.explain(module, zoo.images(1), method="rollout", query="mean")
    assert found.grid.shape == zoo.GRID
    with pytest.raises(UnsupportedMethodError, match="no such token"):
        visattn.explain(module, zoo.images(1), method="rollout", query="cls")


def test_differential_attention_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedMethodError, match="differential attention"):
        visattn.explain(zoo.vit(attn_layer="diff"), zoo.images(1), method="rollout")


def test_unknown_modules_are_opaque_and_say_what_to_do() -> None:
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 48 * 80, 4))
    assert isinstance(find_adapter(module), OpaqueAdapter)
    with pytest.raises(UnsupportedMethodError, match="register_adapter"):
        visattn.explain(module, zoo.images(1), method="gradcam", target=1)


def test_two_families_that_claim_one_model_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from visattn.adapters.beit import BeitAdapter

    monkeypatch.setattr(BeitAdapter, "matches", classmethod(lambda cls, module: True))
    with pytest.raises(ModelError, match="beit, vision_transformer"):
        find_adapter(zoo.build("class"))


def test_a_general_family_stands_back(monkeypatch: pytest.MonkeyPatch) -> None:
    from visattn.adapters.convnet import ConvNetAdapter

    monkeypatch.setattr(ConvNetAdapter, "matches", classmethod(lambda cls, module: True))
    assert find_adapter(zoo.build("class")).family == "vision_transformer"


def test_a_wrong_declaration_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    from visattn.adapters.vision_transformer import VisionTransformerAdapter

    monkeypatch.setattr(VisionTransformerAdapter, "prefix", lambda self: ())
    with pytest.raises(CaptureError, match=r"1 x 16 queries and 16 keys.*declares 1 x 15"):
        visattn.explain(zoo.build("class"), zoo.images(1), method="rollout")
