"""The token stream of every family that declares one is the stream of the model, numerically."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from operator import attrgetter

import pytest
import torch

import visattn
from tests import zoo
from visattn.adapters import Block, Refusal, Stream
from visattn.images import Size
from visattn.models import Model
from visattn.models.output import as_scores_tensor
from visattn.observation import Observation, observe

# Families whose streams say both ways whether tokens may be dropped.
SURE = ("torchvision_vit", "open_clip_vit", "transformers_vit", "vision_transformer_relpos")


def model_of(name: str) -> Model:
    return visattn.load_model(zoo.build(name).double(), image_size=zoo.size_of(name))


def stream_of(name: str) -> Stream | Refusal:
    return visattn.load_model(zoo.build(name), image_size=zoo.size_of(name)).adapter.stream()


STREAMS = [name for name in zoo.ALL if isinstance(stream_of(name), Stream)]


def blocks_of(model: Model) -> tuple[Block, ...]:
    stream = model.adapter.stream()
    assert isinstance(stream, Stream)
    return stream.blocks


@cache
def seen(name: str) -> tuple[Model, Observation]:
    model = model_of(name)
    sites = {
        site: None
        for block in blocks_of(model)
        for site in (block.before, block.between, block.after)
        if site is not None
    }
    inputs = zoo.images(size=zoo.size_of(name)).double()
    return model, observe(model.module, inputs, sites=list(sites))


def written(model: Model, found: Observation, block: Block) -> torch.Tensor:
    """``s W_O concat_h(A_h V_h)`` (batch, token, channel), without the output bias."""
    (name,) = block.operations
    operation = next(each for each in found.operations if each.name == name)
    assert operation.projection is not None
    heads = (operation.weights() @ operation.value).transpose(1, 2).flatten(2)
    scale = 1.0 if block.scale is None else attrgetter(block.scale)(model.module).detach()
    return scale * (heads @ operation.projection.T)


def test_the_families_of_other_libraries_have_streams() -> None:
    for name in ("torchvision_vit", "open_clip_vit", "open_clip_coca", "transformers_vit",
                 "transformers_deit", "transformers_beit_mean", "transformers_dinov2",
                 "transformers_dinov3", "transformers_mae", "transformers_clip",
                 "transformers_siglip", "relpos_mean", "relpos_class"):  # fmt: skip
        assert name not in zoo.ALL or name in STREAMS


@pytest.mark.parametrize("name", STREAMS)
def test_attention_adds_its_projected_heads_and_a_bias_to_the_stream(name: str) -> None:
    model, found = seen(name)
    checked = 0
    for block in blocks_of(model):
        if block.between is None:
            continue
        own = next(op for op in found.operations if op.name == block.operations[0])
        if own.projection is None:  # a norm or a gate stands between: methods refuse by name
            continue
        added = written(model, found, block)
        before, between = (found.activations[s].value for s in (block.before, block.between))
        rest = between - before - added
        bias = rest.mean(dim=(0, 1))
        assert (rest - bias).abs().max() <= 1e-9 * added.abs().max()
        assert added.std(dim=1).max() > 1e-3 * added.abs().max()
        checked += 1
    assert checked or name in ("parallel", "parallel_scaling")


@pytest.mark.parametrize("name", STREAMS)
def test_a_block_hands_its_tokens_to_the_next(name: str) -> None:
    model, found = seen(name)
    blocks = blocks_of(model)
    chain = model.adapter.chain(Size(*zoo.size_of(name)))
    assert not isinstance(chain, Refusal)
    tokens = (2, chain.end.tokens)
    for one, two in pairwise(blocks):
        after, before = (found.activations[s].value for s in (one.after, two.before))
        assert after.shape[:2] == tokens
        assert torch.equal(after, before)
        assert one.between is None or not torch.equal(found.activations[one.between].value, after)
    steps = [step for step in chain.steps if step.placements]
    names = [tuple(placed.operation for placed in step.placements) for step in steps]
    assert names == [block.operations for block in blocks]


def replaced(model: Model, name: str, tokens: torch.Tensor) -> torch.Tensor:
    """Outputs of the model when its last block returns ``tokens``."""
    last = model.module.get_submodule(blocks_of(model)[-1].after.module)
    handle = last.register_forward_hook(lambda *_: tokens)
    inputs = zoo.images(len(tokens), size=zoo.size_of(name)).double()
    with torch.no_grad():
        outputs = as_scores_tensor(model.module(inputs))
    handle.remove()
    return outputs


@pytest.mark.parametrize("name", STREAMS)
def test_the_head_of_a_stream_is_the_models_own(name: str) -> None:
    """Fed with equal tokens, the mean of all of them is what any pooling reads."""
    model, found = seen(name)
    stream = model.adapter.stream()
    assert isinstance(stream, Stream)
    if stream.head is None:
        assert found.outputs.ndim == 3  # the model returns tokens
        return
    tokens = found.activations[stream.blocks[-1].after].value
    if stream.pool is None:
        tokens = tokens[:, 1:2].expand_as(tokens).contiguous()
    with torch.no_grad():
        right, own = replaced(model, name, tokens), stream.head(tokens)
    assert (own - right).abs().max() <= 1e-10 * right.abs().max()
    assert not torch.allclose(own[0], own[1])


def changed_at_the_start(model: Model, name: str, order: torch.Tensor) -> torch.Tensor:
    """Outputs of the model when its first block gets the tokens ``order``."""
    first = model.module.get_submodule(blocks_of(model)[0].before.module)
    handle = first.register_forward_pre_hook(lambda _, given: (given[0][:, order], *given[1:]))
    try:
        with torch.no_grad():
            inputs = zoo.images(size=zoo.size_of(name)).double()
            return as_scores_tensor(model.module(inputs))
    finally:
        handle.remove()


@pytest.mark.parametrize("name", STREAMS)
def test_tokens_may_be_dropped_only_where_they_carry_their_positions(name: str) -> None:
    model, found = seen(name)
    stream = model.adapter.stream()
    layout = model.adapter.layout(Size(*zoo.size_of(name)))
    assert isinstance(stream, Stream)
    assert not isinstance(layout, Refusal)
    if found.outputs.ndim != 2:
        return
    places = torch.arange(layout.tokens)
    swapped = places.clone()
    swapped[layout.places] = swapped[layout.places].flip(0)
    outputs = changed_at_the_start(model, name, swapped)
    same = (outputs - found.outputs).abs().max() <= 1e-9 * found.outputs.abs().max()
    assert same or not stream.drops
    if model.adapter.family in SURE:
        assert same == stream.drops
    if stream.drops:
        fewer = changed_at_the_start(model, name, places[:-2])
        assert fewer.shape == found.outputs.shape
        assert fewer.isfinite().all()
        assert not torch.allclose(fewer, found.outputs)


@pytest.mark.parametrize("name", ["post_norm", "relpos_post_norm"])
def test_blocks_that_norm_behind_their_branches_are_refused(name: str) -> None:
    found = stream_of(name)
    assert isinstance(found, Refusal)
    assert "not a pre-norm residual block" in found.reason


def test_a_norm_behind_open_clips_attention_is_refused() -> None:
    pytest.importorskip("open_clip")
    from tests.zoo.open_clip_models import vit

    found = visattn.load_model(vit(scale_attn=True), image_size=zoo.SIZE).adapter.stream()
    assert isinstance(found, Refusal)
    assert "norm behind its attention" in found.reason


def test_layer_scale_is_found_in_every_family() -> None:
    scaled = {
        "headless": "blocks.0.ls1.gamma",
        "relpos_mean": "blocks.0.ls1.gamma",
        "beit_mean": "blocks.0.gamma_1",
        "transformers_beit_mean": "beit.layers.0.lambda_1",
        "transformers_dinov2": "dinov2.encoder.layer.0.layer_scale1.lambda1",
        "transformers_dinov3": "model.layer.0.layer_scale1.lambda1",
        "class": None,
        "transformers_vit": None,
    }
    for name, right in scaled.items():
        if name in zoo.ALL:
            found = stream_of(name)
            assert isinstance(found, Stream)
            assert found.blocks[0].scale == right
