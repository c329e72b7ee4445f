"""Complexity, sparseness, effective complexity: explicit sums, known maps, quantus."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import visattn
from tests.evaluation.judging import drawn, values
from visattn.errors import ConfigError
from visattn.evaluation.bench import Bench
from visattn.evaluation.metrics import METRICS, read_metric
from visattn.evaluation.metrics.metric import Cost

NAMES = ("complexity", "sparseness", "effective_complexity")
ONE_HOT = np.eye(1, 15, 4).reshape(3, 5)


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench(visattn.load_model(nn.Flatten()))


def tied(seed: int) -> np.ndarray:
    """A signed map, not square, with ties and zeros."""
    return np.random.default_rng(seed).integers(-3, 6, size=(4, 7)).astype(np.float32)


def measured(bench: Bench, spec: str, grid: np.ndarray) -> float:
    return values(read_metric(spec)[1], bench, [drawn(grid)])[0]


def naive_entropy(grid: np.ndarray) -> float:
    total = sum(abs(float(v)) for v in grid.flat)
    shares = [abs(float(v)) / total for v in grid.flat]
    return -sum(p * math.log(p) for p in shares if p > 0)


def naive_gini(grid: np.ndarray) -> float:
    """Half the mean absolute difference of all pairs by the mean (Gini 1912)."""
    sizes = [abs(float(v)) for v in grid.flat]
    n = len(sizes)
    pairs = sum(abs(a - b) for a in sizes for b in sizes)
    return pairs / (2 * n * sum(sizes))


@pytest.mark.parametrize("seed", range(4))
def test_values_are_those_of_explicit_sums(bench, seed):
    grid = tied(seed)
    cells = [abs(float(v)) for v in grid.flat]
    assert measured(bench, "complexity:normalized=False", grid) == pytest.approx(
        naive_entropy(grid), abs=1e-12
    )
    assert measured(bench, "complexity", grid) == pytest.approx(naive_entropy(grid) / math.log(28))
    assert measured(bench, "sparseness", grid) == pytest.approx(naive_gini(grid), abs=1e-12)
    count = sum(cell > 0.5 * max(cells) for cell in cells)
    assert measured(bench, "effective_complexity:eps=0.5", grid) == count / 28


@pytest.mark.parametrize(
    ("spec", "even", "one"),
    [
        ("complexity", 1.0, 0.0),
        ("complexity:normalized=False", math.log(15), 0.0),
        ("sparseness", 0.0, 1 - 1 / 15),
        ("effective_complexity", 1.0, 1 / 15),
    ],
)
def test_an_even_map_and_one_cell_have_known_values(bench, spec, even, one):
    metric = read_metric(spec)[1]
    flat, peak = metric.measure(bench, [drawn(np.ones((3, 5))), drawn(ONE_HOT)])
    assert flat.value == pytest.approx(even, abs=1e-12)
    assert flat.chance == pytest.approx(even, abs=1e-12)
    assert peak.value == pytest.approx(one, abs=1e-12)
    assert (peak.value > flat.value) == (metric.better == "higher")


@pytest.mark.parametrize("name", NAMES)
def test_scale_and_sign_do_not_matter_but_a_power_does(bench, name):
    grid = np.random.default_rng(1).random((4, 7)).astype(np.float32)
    value = measured(bench, name, grid)
    assert measured(bench, name, -3 * grid) == pytest.approx(value, rel=1e-6)
    assert abs(measured(bench, name, grid**3) - value) > 0.05
    assert not METRICS.get(name).rank_only


@pytest.mark.parametrize("name", NAMES)
def test_one_map_and_several_have_the_same_values_and_cost_nothing(bench, name):
    metric, cases = read_metric(name)[1], [drawn(tied(seed)) for seed in range(3)]
    alone = [values(metric, bench, [case])[0] for case in cases]
    assert values(metric, bench, cases) == alone
    assert metric.cost() == Cost()
    assert (bench.passes, bench.explanations) == (0, 0)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("complexity:normalized=2", "normalized=2 is not True or False"),
        ("effective_complexity:eps=1.0", "below 1"),
        ("effective_complexity:eps=-0.1", "at least 0"),
        ("sparseness:eps=1", "no option"),
    ],
)
def test_bad_options_are_refused(spec, words):
    with pytest.raises(ConfigError, match=words):
        read_metric(spec)


def test_quantus_agrees_on_magnitudes(bench):
    quantus = pytest.importorskip("quantus")
    grids = np.abs(np.stack([tied(seed) for seed in range(3)]))
    cases = [drawn(grid) for grid in grids]
    arguments = {
        "model": None, "x_batch": grids[:, None], "y_batch": np.zeros(3, int),
        "a_batch": grids[:, None],
    }  # fmt: skip
    quiet = {"normalise": False, "abs": True, "disable_warnings": True}
    # It adds 1e-7 to every value before sorting, and 1e-12 inside the logarithm.
    found = quantus.Sparseness(**quiet)(**arguments)
    assert values(read_metric("sparseness")[1], bench, cases) == pytest.approx(found, abs=1e-5)
    found = quantus.Complexity(**quiet)(**arguments)
    nats = read_metric("complexity:normalized=False")[1]
    assert values(nats, bench, cases) == pytest.approx(found, abs=1e-5)
    # Its threshold is absolute: of maps scaled to a maximum of 1 it is ours, as a count.
    scaled = grids / grids.max(axis=(1, 2), keepdims=True)
    found = quantus.EffectiveComplexity(eps=0.1, **quiet)(
        **{**arguments, "a_batch": scaled[:, None]}
    )
    shares = values(read_metric("effective_complexity")[1], bench, cases)
    assert [round(28 * share) for share in shares] == list(found)


def test_tensors_of_the_case_are_not_read(bench):
    case = drawn(tied(0))
    case.sample.prepared.tensor.fill_(torch.nan)
    assert np.isfinite(values(read_metric("complexity")[1], bench, [case])).all()
