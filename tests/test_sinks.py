"""Attention statistics against planted sinks and a naive float64 reading of the weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.zoo import VITS, build, images
from visattn.adapters import Chain, Readout, TokenLayout
from visattn.images import Size
from visattn.models import load_model
from visattn.observation import AttentionOperation, AttentionRecord, capture
from visattn.sinks import attention_statistics

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
    blocks = tuple((op.name,) for op in operations)
    chain = Chain(LAYOUT, Readout("test", row), blocks)
    adapter: Any = SimpleNamespace(chain=lambda size: chain, family="test")
    batch = layers[0].shape[0]
    return AttentionRecord(
        operations, {}, torch.zeros(batch, 3, 48, 96), torch.zeros(batch, 5), adapter
    )


def uniform(batch: int = 1, heads: int = 2) -> torch.Tensor:
    return torch.full((batch, heads, TOKENS, TOKENS), 1 / TOKENS)


def with_sinks(*tokens: int, share: float = 0.9, heads: int = 2) -> torch.Tensor:
    weights = (1 - share) * uniform(heads=heads)
    weights[:, :, :, list(tokens)] += share / len(tokens)
    return weights


def test_uniform_attention_has_no_sinks_and_its_fair_share_on_prefix_tokens() -> None:
    (found,) = attention_statistics(record(uniform()))
    assert found == {"prefix_mass": pytest.approx(2 / TOKENS), "outlier_tokens": 0}


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
    assert found == {"prefix_mass": pytest.approx(2 / TOKENS), "outlier_tokens": 0}


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
    module = build(name)
    seen = capture(load_model(module), images())
    chain = seen.chain()
    weights = {op.name: op.weights().double().numpy().mean(axis=1) for op in seen}
    last = np.mean([weights[part] for part in chain.blocks[-1]], axis=0)
    read = chain.readout.row.double().numpy()
    prefix = len(chain.layout.prefix)
    for index, found in enumerate(attention_statistics(seen)):
        start = read
        if chain.readout.pool:
            start = np.zeros(chain.layout.tokens)
            start[chain.readout.reads_from :] = read @ weights[chain.readout.pool][index]
        share = (start @ last[index])[:prefix].sum()
        received = last[index].mean(axis=0)[prefix:]
        assert found["prefix_mass"] == pytest.approx(share, abs=1e-5)
        assert found["outlier_tokens"] == (received > 5 / chain.layout.tokens).sum()
        assert type(found["outlier_tokens"]) is int
