"""Attention flow: minimum cuts by enumeration, networkx, and the graph of every arrangement."""

from __future__ import annotations

from itertools import chain, combinations
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch

import visattn
from tests import zoo
from tests.methods import oracle, steps_oracle
from visattn.errors import UnsupportedMethodError
from visattn.methods.flow import UNIT, Graph
from visattn.models import Model
from visattn.observation import capture


def transitions(tokens: int, layers: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = 3 * torch.randn(layers, tokens, tokens, generator=generator, dtype=torch.float64)
    eye = torch.eye(tokens, dtype=torch.float64)
    return [0.5 * eye + 0.5 * part.softmax(dim=-1) for part in scores]


def edges(
    start: torch.Tensor, steps: list[torch.Tensor]
) -> dict[tuple[tuple[int, int], tuple[int, int]], float]:
    """Capacities between nodes (depth, token), depth 0 the super-source; ``steps`` last first."""
    return {
        ((depth, i), (depth + 1, j)): float(capacity)
        for depth, step in enumerate((start[None], *steps))
        for i, row in enumerate(step)
        for j, capacity in enumerate(row)
    }


def minimum_cut(start: torch.Tensor, steps: list[torch.Tensor], token: int) -> float:
    """The least capacity that any set of nodes with the source, and without the sink, lets out."""
    capacities = edges(start, steps)
    sink = (len(steps) + 1, token)
    others = sorted({node for edge in capacities for node in edge} - {(0, 0), sink})
    subsets = chain.from_iterable(combinations(others, size) for size in range(len(others) + 1))
    return min(
        sum(c for (i, j), c in capacities.items() if i in inside and j not in inside)
        for inside in ({(0, 0), *subset} for subset in subsets)
    )


def by_networkx(start: torch.Tensor, steps: list[torch.Tensor], token: int) -> float:
    graph = nx.DiGraph()
    for (i, j), capacity in edges(start, steps).items():
        graph.add_edge(i, j, capacity=capacity)
    return float(nx.maximum_flow_value(graph, (0, 0), (len(steps) + 1, token)))


@pytest.mark.parametrize("start", [(1.0, 0.0, 0.0), (1 / 3, 1 / 3, 1 / 3), (0.5, 0.5, 0.0)])
def test_a_flow_is_the_minimum_cut(start: tuple[float, ...]) -> None:
    row, steps = torch.tensor(start, dtype=torch.float64), transitions(3, 2)
    graph = Graph.of(row, steps)
    for token in range(3):
        assert abs(graph.flow(token) - minimum_cut(row, steps, token)) <= graph.error
    assert graph.error == graph.capacities.nnz / 2 / UNIT < 1e-7


@pytest.mark.parametrize("seed", range(3))
def test_a_flow_is_that_of_networkx(seed: int) -> None:
    row, steps = torch.full((6,), 1 / 6, dtype=torch.float64), transitions(6, 3, seed)
    graph = Graph.of(row, steps)
    for token in range(6):
        assert abs(graph.flow(token) - by_networkx(row, steps, token)) <= graph.error


def grids(name: str, **options: Any) -> tuple[list[torch.Tensor], list[visattn.SaliencyMap]]:
    model = visattn.load_model(zoo.build(name), image_size=zoo.size_of(name))
    maps = visattn.explain(model, zoo.images(2, zoo.size_of(name)), method="flow", **options)
    return [torch.from_numpy(found.grid.copy()).double().flatten() for found in maps], maps


def dense_steps(name: str, dense: oracle.Dense) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The read-out row and T of each layer, the last first, by hand."""
    pooled, step = name in oracle.POOLS, 2 if name == "parallel" else 1
    steps = []
    for index in dense.blocks(step, pooled):
        parts = [attn.mean(dim=0) for attn in dense.attn[index : index + step]]
        mean = torch.stack(parts).mean(dim=0)
        steps.insert(0, 0.5 * oracle.identity(mean) + 0.5 * mean)
    pool = oracle.pool_query(name, dense.attn[-1].mean(dim=0)) if pooled else None
    return oracle.start(name, dense, pool), steps


@pytest.mark.parametrize(
    "name", ["class", "registers", "distilled", "mean", "latent_pool", "eva_mean", "parallel"]
)
def test_every_read_out_against_networkx(name: str) -> None:
    """A pooling head's row over tokens is what the super-source can send."""
    (found, _), _ = grids(name)
    start, steps = dense_steps(name, oracle.Dense(zoo.build(name), zoo.images(2)[0]))
    prefix = oracle.PREFIX[name]
    right = [by_networkx(start, steps, prefix + patch) for patch in (0, 4, 9, 14)]
    assert (found[[0, 4, 9, 14]] - torch.tensor(right)).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["tiny_vit_padded", "iformer_windows", "crossvit", "cait"])
def test_windows_merging_and_class_attention_are_steps_of_the_graph(name: str) -> None:
    model = visattn.load_model(zoo.build(name), image_size=zoo.size_of(name))
    record = capture(model, zoo.images(2, zoo.size_of(name)))
    walked = record.chain()
    (_, found), _ = grids(name)
    steps = [steps_oracle.rollout_matrix(record, s, 1) for s in reversed(walked.steps)]
    graph = Graph.of(steps_oracle.start(walked), steps)
    right = [graph.flow(token) for token in range(walked.layout.tokens)][walked.layout.places]
    assert (found - torch.tensor(right)).abs().max() < 1e-5


def test_the_flow_is_never_less_than_what_rollout_carries() -> None:
    """Rollout is one of the flows that the capacities allow."""
    for name in ("class", "mean", "registers"):
        carried = visattn.explain(zoo.build(name), zoo.images(2), method="rollout")
        for one, other in zip(grids(name)[0], carried, strict=True):
            assert (one.numpy() >= other.grid.ravel() - 1e-6).all()
            assert one.max() <= 1 + 1e-6


def test_options_of_layers_residual_and_heads() -> None:
    (found, _), (one, _) = grids("class", start_layer=1, residual=0.2, heads="max")
    dense = oracle.Dense(zoo.build("class"), zoo.images(2)[0])
    eye, steps = oracle.identity(dense.attn[0]), list[torch.Tensor]()
    for attn in dense.attn[1:]:
        steps.insert(0, oracle.row_normalised(0.2 * eye + 0.8 * attn.amax(dim=0)))
    right = [by_networkx(eye[0], [*steps, eye], token) for token in (1, 8, 15)]
    assert (found[[0, 7, 14]] - torch.tensor(right)).abs().max() < 1e-5
    assert one.provenance["layers"] == [1, 2]
    assert 0 < one.provenance["flow_error"] < 1e-5


def test_a_query_is_the_source() -> None:
    (found, _), (one, _) = grids("mean", query=(1, 3))
    dense = oracle.Dense(zoo.build("mean"), zoo.images(2)[0])
    _, steps = dense_steps("mean", dense)
    right = by_networkx(oracle.identity(dense.attn[0])[5 + 3], steps, 6)
    assert abs(found[6] - right) < 1e-5
    assert one.provenance["readout"] == "query (1, 3)"


def test_too_many_patches_are_refused_with_their_number(dinov2: Model) -> None:
    with pytest.raises(UnsupportedMethodError, match=r"15 patches.*max_patches=14"):
        grids("class", max_patches=14)
    big = visattn.load_model("packaged:dinov2_small", image_size=(224, 280))
    with pytest.raises(UnsupportedMethodError, match=r"320 patches in a layer.*256.*image_size"):
        visattn.explain(big, zoo.images(1, (224, 280)), method="flow")


@pytest.mark.parametrize("residual", [1.0, -0.1])
def test_a_residual_weight_outside_its_range_is_refused(residual: float) -> None:
    with pytest.raises(UnsupportedMethodError, match=r"flow: residual"):
        grids("class", residual=residual)


def test_progress_counts_flows() -> None:
    seen: list[tuple[str, int, int]] = []
    visattn.explain(
        zoo.build("mean"),
        zoo.images(2),
        method="flow",
        progress=lambda *report: seen.append(report),
    )
    assert seen == [("flow", done, 30) for done in range(31)]


def test_full_patches_are_told(dinov2: Model) -> None:
    inputs = zoo.images(1, (140, 196))
    (last,) = visattn.explain(dinov2, inputs, method="flow", layers=[-1])
    right = visattn.explain(dinov2, inputs, method="rollout", layers=[-1])[0].grid
    np.testing.assert_allclose(last.grid, right, atol=1e-6)  # one layer: its own row
    (found,) = visattn.explain(dinov2, inputs, method="flow", layers=[-4, -3, -2, -1])
    share = float((found.grid > 0.999).mean())
    assert any("all that is sent" in note for note in found.warnings) == (share > 0.5)
