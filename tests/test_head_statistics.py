"""Attention distance and head redundancy, against float64 loops over every weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import visattn
from tests import zoo
from tests.test_sinks import LAYOUT, TOKENS, record, uniform
from visattn.head_statistics import HeadStatistics, head_statistics
from visattn.methods.walk import Walk
from visattn.models.inputs import prepare_all
from visattn.observation import record_pass


def found(walk: Walk) -> list[HeadStatistics]:
    return head_statistics(walk, walk.chain.steps[walk.layers[-1]])


def naive(walk: Walk, image: int) -> tuple[float, float]:
    """Return distance and redundancy from dense weights and dense placements, in float64."""
    step = walk.chain.steps[walk.layers[-1]]
    after, before = walk.chain.after(walk.layers[-1]), step.before
    (placement,) = step.placements
    weights = walk.operation(placement).weights().double().numpy()
    weights = weights.reshape(walk.record.batch, -1, *weights.shape[1:])[image]
    asking, looking = placement.queries.matrix().numpy(), placement.keys.matrix().numpy()
    windows, heads, queries, keys = weights.shape

    def centre(layout: Any, shares: np.ndarray) -> np.ndarray | None:
        """Return the centre of a slot, None for prefix tokens and padding."""
        token = int(shares.argmax())
        place = token - len(layout.prefix)
        if shares.sum() == 0 or not 0 <= place < layout.patches:
            return None
        cell = np.array(divmod(place, layout.grid.width)) + 0.5
        return cell * np.array(layout.cell)

    distances = []
    for head in range(heads):
        far = total = 0.0
        for window in range(windows):
            for q in range(queries):
                here = centre(after, asking[:, window * queries + q])
                for k in range(keys):
                    there = centre(before, looking[window * keys + k])
                    if here is not None and there is not None:
                        far += weights[window, head, q, k] * np.linalg.norm(here - there)
                        total += weights[window, head, q, k]
        distances.append(far / total)
    flat = weights.transpose(1, 0, 2, 3).reshape(heads, -1)
    pairs = np.corrcoef(flat)[np.triu_indices(heads, 1)]
    return float(np.mean(distances)), float(np.mean(pairs))


@pytest.mark.parametrize("name", ["class", "distilled", "registers", "swin", "levit", "nest"])
def test_against_loops_over_every_weight(name: str) -> None:
    size = zoo.size_of(name)
    model = visattn.load_model(zoo.build(name), image_size=size)
    prepared = prepare_all(model, zoo.images(2, size))
    walk = Walk.of(record_pass(model, prepared).record)
    for image, each in enumerate(found(walk)):
        distance, redundancy = naive(walk, image)
        assert each.distance == pytest.approx(distance, rel=1e-5)
        assert each.redundancy == pytest.approx(redundancy, abs=1e-5)


def local(reach: int) -> torch.Tensor:
    """Return weights by which every patch looks at the one ``reach`` columns further right."""
    weights = torch.zeros(1, 2, TOKENS, TOKENS)
    rows, cols = LAYOUT.grid
    for row in range(rows):
        for col in range(cols):
            weights[0, :, LAYOUT.token(row, col), LAYOUT.token(row, (col + reach) % cols)] = 1
    weights[0, :, :2, 0] = 1
    return weights


def test_distance_is_in_pixels_of_the_input() -> None:
    (still,) = found(Walk.of(record(local(0))))
    (near,) = found(Walk.of(record(local(1))))
    assert still.distance == 0
    assert near.distance == pytest.approx((5 * 16 + 1 * 5 * 16) / 6)  # one of six columns wraps


def test_prefix_tokens_have_no_place() -> None:
    weights = local(1)
    half = 0.5 * weights
    half[..., 0] += 0.5
    half[0, :, :2] = weights[0, :, :2]
    (whole,), (shared,) = found(Walk.of(record(weights))), found(Walk.of(record(half)))
    assert shared.distance == pytest.approx(whole.distance)


def test_equal_heads_are_wholly_redundant_and_opposite_ones_are_not() -> None:
    (equal,) = found(Walk.of(record(local(1))))
    assert equal.redundancy == pytest.approx(1)
    apart = local(1)
    apart[:, 1] = local(2)[:, 1]
    (different,) = found(Walk.of(record(apart)))
    assert different.redundancy is not None
    assert different.redundancy < 0.2


def test_what_is_undefined_is_none() -> None:
    (even,) = found(Walk.of(record(uniform())))
    assert even.redundancy is None
    assert even.distance is not None
    (one_head,) = found(Walk.of(record(local(1)[:, :1])))
    assert one_head.redundancy is None
    prefix_only = torch.zeros(1, 2, TOKENS, TOKENS)
    prefix_only[..., 0] = 1
    (nowhere,) = found(Walk.of(record(prefix_only)))
    assert nowhere.distance is None


def test_maps_carry_the_numbers() -> None:
    first, second = visattn.explain(zoo.build("class"), zoo.images(2), method="rollout")
    assert first.statistics["attention_distance"] > 0
    assert -1 <= first.statistics["head_redundancy"] <= 1
    assert first.statistics["attention_distance"] != second.statistics["attention_distance"]
