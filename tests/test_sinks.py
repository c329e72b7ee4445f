"""Attention statistics against planted sinks and a naive float64 reading of the weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import visattn
from tests.zoo import GRID, VITS, build, images
from visattn.adapters import Chain, Placement, Readout, Reindex, Step, TokenLayout
from visattn.images import Size
from visattn.models import load_model
from visattn.models.inputs import prepare_all
from visattn.observation import AttentionOperation, AttentionRecord, capture, record_pass
from visattn.sinks import NO_STATISTICS, attention_statistics, outlier_report, outlier_warnings

LAYOUT = TokenLayout(("class", "register 1"), Size(3, 6), (16.0, 16.0))
TOKENS = LAYOUT.tokens


def record(*layers: torch.Tensor, readout: torch.Tensor | None = None) -> AttentionRecord:
    """A record whose layers have the given weights (batch, head, query, key)."""
    operations = tuple(
        AttentionOperation(
            f"block.{i}",
            i,
            value=torch.zeros(*weights.shape[:2], TOKENS, 4),
            output=torch.zeros(*weights.shape[:2], TOKENS, 4),
            explicit=weights,
        )
        for i, weights in enumerate(layers)
    )
    row = LAYOUT.one(0) if readout is None else readout
    steps = tuple(Step.attention(LAYOUT, op.name) for op in operations)
    return recorded(operations, Chain(steps, LAYOUT, Readout("test", row)))


def recorded(operations: tuple[AttentionOperation, ...], chain: Chain) -> AttentionRecord:
    adapter: Any = SimpleNamespace(chain=lambda size: chain, family="test", block_sites=tuple)
    batch = operations[0].shape[0]
    return AttentionRecord(
        operations, {}, torch.zeros(batch, 3, 48, 96), torch.zeros(batch, 5), adapter
    )


def numbers(found: dict[str, Any]) -> dict[str, Any]:
    """The two numbers about the last layer."""
    return {name: found[name] for name in ("prefix_mass", "outlier_tokens")}


def uniform(batch: int = 1, heads: int = 2) -> torch.Tensor:
    return torch.full((batch, heads, TOKENS, TOKENS), 1 / TOKENS)


def with_sinks(*tokens: int, share: float = 0.9, heads: int = 2) -> torch.Tensor:
    weights = (1 - share) * uniform(heads=heads)
    weights[:, :, :, list(tokens)] += share / len(tokens)
    return weights


def test_uniform_attention_has_no_sinks_and_its_fair_share_on_prefix_tokens() -> None:
    (found,) = attention_statistics(record(uniform()))
    assert numbers(found) == {"prefix_mass": pytest.approx(2 / TOKENS), "outlier_tokens": 0}


@pytest.mark.parametrize(("sinks", "count"), [((7,), 1), ((2,), 1), ((3, 19), 2), ((0,), 0)])
def test_patch_tokens_that_everyone_looks_at_are_counted(
    sinks: tuple[int, ...], count: int
) -> None:
    (found,) = attention_statistics(record(with_sinks(*sinks)))
    assert found["outlier_tokens"] == count


def test_attention_on_prefix_tokens_is_mass_and_not_an_outlier() -> None:
    (found,) = attention_statistics(record(with_sinks(0, 1, share=0.8)))
    assert found["prefix_mass"] == pytest.approx(0.8 + 0.2 * 2 / TOKENS)
    assert found["outlier_tokens"] == 0


def test_a_sink_needs_five_times_its_fair_share() -> None:
    for times, count in ((4.9, 0), (5.1, 1)):
        share = (times - 1) / (TOKENS - 1)
        (found,) = attention_statistics(record(with_sinks(9, share=share)))
        assert found["outlier_tokens"] == count, times


def test_heads_are_averaged() -> None:
    one_of_four = torch.cat([with_sinks(9, heads=1), uniform(heads=3)], dim=1)
    (found,) = attention_statistics(record(one_of_four))
    assert found["outlier_tokens"] == int((0.9 + 0.1 / TOKENS + 3 / TOKENS) / 4 > 5 / TOKENS)


def test_only_the_last_layer_counts() -> None:
    (found,) = attention_statistics(record(with_sinks(0, 9), uniform()))
    assert found["sinks"] == [1, 0]
    assert numbers(found) == {"prefix_mass": pytest.approx(2 / TOKENS), "outlier_tokens": 0}


def test_prefix_mass_belongs_to_the_tokens_that_the_head_reads() -> None:
    weights = uniform()
    weights[:, :, 5] = 0
    weights[:, :, 5, 1] = 1
    (by_class,) = attention_statistics(record(weights))
    (by_patch,) = attention_statistics(record(weights, readout=LAYOUT.one(5)))
    assert by_class["prefix_mass"] == pytest.approx(2 / TOKENS)
    assert by_patch["prefix_mass"] == 1


def test_each_image_has_its_own_numbers() -> None:
    both = attention_statistics(record(torch.cat([with_sinks(7), uniform()])))
    assert [found["outlier_tokens"] for found in both] == [1, 0]


@pytest.mark.parametrize("name", VITS)
def test_on_real_models_the_numbers_are_those_of_the_weights(name: str) -> None:
    model = load_model(build(name))
    seen = capture(model, images())
    chain = seen.chain()
    weights = {op.name: op.weights().double().numpy().mean(axis=1) for op in seen}
    assert isinstance(chain.readout, Readout)
    read, prefix = chain.readout.row.double().numpy(), len(chain.layout.prefix)
    reports, statistics = outlier_report(seen), attention_statistics(seen)
    for index, (layers, found) in enumerate(zip(reports, statistics, strict=True)):
        assert len(layers) == len(chain.steps) == len(found["sinks"])
        for layer, step in zip(layers, chain.steps, strict=True):
            matrix = np.mean([weights[p.operation][index] for p in step.placements], axis=0)
            received = matrix.mean(axis=0)
            high = [i for i in range(prefix, len(received)) if received[i] > 5 / len(received)]
            assert layer.sinks is not None
            assert set(layer.sinks) == {divmod(i - prefix, GRID[1]) for i in high}
            assert layer.sink_share == pytest.approx(received[high].sum(), abs=1e-5)
            assert layer.prefix_share == pytest.approx(received[:prefix].sum(), abs=1e-5)
            assert layer.peak == pytest.approx(received[prefix:].max() * len(received), rel=1e-4)
            assert found["sinks"][layer.layer] == len(high)
        start = read
        if chain.pool is not None:
            pooled = weights[chain.pool.placements[0].operation][index]
            start = read @ pooled @ chain.pool.placements[0].keys.matrix().numpy()
        assert found["prefix_mass"] == pytest.approx((start @ matrix)[:prefix].sum(), abs=1e-5)
        assert found["outlier_tokens"] == len(high)
        assert type(found["outlier_tokens"]) is int
        assert json.loads(json.dumps(found)) == found


def test_sinks_are_named_by_their_cell_strongest_first() -> None:
    weights = with_sinks(9, 4, share=0.6)
    weights[:, :, :, 4] += 0.1
    weights /= weights.sum(dim=-1, keepdim=True)
    ((layer,),) = outlier_report(record(weights))
    assert layer.sinks == ((0, 2), (1, 1))
    assert layer.name == "block.0"
    assert layer.norm_outliers is None
    assert layer.norm_peak is None
    assert outlier_report(record(weights), sink=20)[0][0].sinks == ()


def test_windows_share_out_attention_over_all_their_tokens() -> None:
    """Two windows of nine; a key that all of its own window look at gets half of all attention."""
    weights = torch.full((2, 1, 9, 9), 1 / 9)
    weights[1] = 0
    weights[1, :, :, 4] = 1
    layout = TokenLayout((), Size(3, 6), (16.0, 16.0))
    index = torch.arange(18).reshape(3, 2, 3).transpose(0, 1).reshape(2, 9)
    zeros = torch.zeros(2, 1, 9, 4)
    operation = AttentionOperation("block", 0, zeros, zeros, explicit=weights)
    step = Step.block(layout, Placement.windowed("block", index, 18))
    windowed = recorded((operation,), Chain((step,), layout, Readout("test", layout.uniform())))
    windowed = replace(windowed, inputs=torch.zeros(1, 3, 48, 96), outputs=torch.zeros(1, 5))
    ((layer,),) = outlier_report(windowed)
    assert layer.sinks == ((1, 4),)
    assert layer.sink_share == pytest.approx(0.5)
    assert layer.peak == pytest.approx(9)


def test_a_fair_share_is_that_of_the_tokens_that_can_be_attended_to() -> None:
    """Only 8 of 20 tokens are keys: 0.6 of all attention is 4.8 fair shares."""
    keys = Reindex.gather(torch.arange(2, 10), TOKENS)
    step = Step(LAYOUT, (Placement("block.0", Reindex.identity(TOKENS), keys),))
    weights = torch.full((1, 1, TOKENS, 8), 0.4 / 7)
    weights[..., 5] = 0.6
    value, output = torch.zeros(1, 1, 8, 4), torch.zeros(1, 1, TOKENS, 4)
    operation = AttentionOperation("block.0", 0, value, output, explicit=weights)
    chain = Chain((step,), LAYOUT, Readout("test", LAYOUT.one(0)))
    ((layer,),) = outlier_report(recorded((operation,), chain))
    assert layer.peak == pytest.approx(4.8)
    assert layer.sinks == ()
    assert outlier_report(recorded((operation,), chain), sink=4.7)[0][0].sinks == ((0, 5),)


def test_class_attention_has_no_sinks() -> None:
    """What one class token looks at is a map, not a habit of all tokens."""
    every = Reindex.identity(TOKENS)
    only = Reindex(torch.tensor([0]), torch.tensor([0]), torch.ones(1).double(), (TOKENS, 1))
    step = Step(LAYOUT, (Placement("block.0", only, every),), every)
    weights = torch.zeros(1, 2, 1, TOKENS)
    weights[..., 7] = 1
    value, output = torch.zeros(1, 2, TOKENS, 4), torch.zeros(1, 2, 1, 4)
    operation = AttentionOperation("block.0", 0, value, output, explicit=weights)
    chain = Chain((step,), LAYOUT, Readout("test", LAYOUT.one(0)))
    ((layer,),) = outlier_report(recorded((operation,), chain))
    assert (layer.sinks, layer.sink_share, layer.peak) == (None, None, None)
    (found,) = attention_statistics(recorded((operation,), chain))
    assert found["outlier_tokens"] is None
    assert found["prefix_mass"] == 0
    assert outlier_warnings(found) == []


def planted_norm(factor: float) -> torch.nn.Module:
    """A ViT whose second block writes a huge token at the cell (1, 2)."""
    module: Any = build("class")

    def enlarge(_: Any, __: Any, output: torch.Tensor) -> torch.Tensor:
        tokens = output.clone()
        tokens[:, 1 + GRID[1] + 2] *= factor
        return tokens

    module.blocks[1].register_forward_hook(enlarge)
    return module


def test_a_planted_high_norm_token_is_counted_placed_and_told() -> None:
    maps = visattn.explain(planted_norm(30.0), images(), method="rollout")
    for found in maps:
        assert found.statistics["norm_outliers"][1] == 1
        assert found.statistics["norm_peak"][1] > 20
        assert any("high-norm tokens: 1 patch tokens reach" in note for note in found.warnings)
    model = load_model(planted_norm(30.0))
    sites = [site for site in model.adapter.block_sites() if site is not None]
    record = record_pass(model, prepare_all(model, images()), sites=sites).record
    assert [layers[1].norm_outliers for layers in outlier_report(record)] == [((1, 2),)] * 2
    assert outlier_report(record, deviations=1e6)[0][1].norm_outliers == ()


def test_layers_that_were_not_walked_are_not_told() -> None:
    (found,) = visattn.explain(planted_norm(30.0), images(1), method="rollout", layers=0)
    assert not any("high-norm" in note for note in found.warnings)
    assert found.statistics["norm_outliers"][1] == 1


def test_methods_without_attention_have_no_such_statistics() -> None:
    (found,) = visattn.explain(build("class"), images(1), method="gradcam")
    assert found.statistics["sinks"] is None
    assert found.statistics["prefix_mass"] is None


def test_warnings_name_the_worst_layer_and_the_others() -> None:
    found = {
        "sinks": [3, 0, 2], "sink_share": [0.2, 0.05, 0.15],
        "norm_outliers": [1, 4, None], "norm_peak": [1.9, 3.0, None],
    }  # fmt: skip
    sinks, norms = outlier_warnings(found)
    assert "3 patch tokens receive 20% of the attention in layer 0 (also in 2)" in sinks
    assert "4 patch tokens reach 3.0 times the median norm behind layer 1;" in norms
    assert outlier_warnings(found, [2]) == [sinks.replace("3 p", "2 p").replace("20%", "15%")
        .replace("layer 0 (also in 2)", "layer 2")]  # fmt: skip
    assert outlier_warnings(NO_STATISTICS) == []


def test_dinov2_has_sinks_on_a_photograph(photos: Path) -> None:
    model = load_model("packaged:dinov2_small", image_size=448)
    record = capture(model, photos / "astronaut.jpg")
    (layers,) = outlier_report(record)
    first = layers[0]
    assert first.sinks is not None
    assert 1 <= len(first.sinks) <= 10
    assert first.peak is not None
    assert first.peak > 50
    assert sum(len(layer.sinks or ()) for layer in layers[7:11]) > 10
    assert layers[11].sinks == ()
