"""Agreement: numbers as scipy gives them, and a matrix that shows them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from visattn.errors import ConfigError
from visattn.figures import agreement, agreement_figure, save
from visattn.figures.agreement import iou
from visattn.figures.shared_scale import MINUS
from visattn.saliency import Target

GRIDS = np.random.default_rng(0).normal(size=(3, 5, 6)).astype(np.float32)


def columns(make_map: Any, name: str = "cat", grids: Any = GRIDS) -> list[Any]:
    methods = ("gradcam", "layercam", "eigencam")
    return [make_map(g, method=m, name=name) for g, m in zip(grids, methods, strict=True)]


@pytest.mark.parametrize(("measure", "told"), [("spearman", spearmanr), ("pearson", pearsonr)])
def test_correlations(make_map: Any, measure: str, told: Any) -> None:
    found = agreement(columns(make_map), measure=measure)
    for i in range(3):
        for j in range(3):
            wanted = told(GRIDS[i].ravel(), GRIDS[j].ravel())[0]
            assert found.values[i, j] == pytest.approx(wanted, abs=1e-6)
    assert found.labels == ("gradcam", "layercam", "eigencam")


def test_ties_share_their_rank(make_map: Any) -> None:
    one, other = np.array([[0, 0, 1, 2]]), np.array([[3, 1, 1, 5]])
    found = agreement([make_map(one), make_map(other, method="b")])
    assert found.values[0, 1] == pytest.approx(spearmanr(one.ravel(), other.ravel())[0])


def test_intersection_over_union_of_the_highest_cells(make_map: Any) -> None:
    one, other = np.zeros((2, 5)), np.zeros((2, 5))
    one[0, :2], other[0, 1:3] = 1, 1
    found = agreement([make_map(one), make_map(other, method="b")], measure="iou")
    assert found.values == pytest.approx(np.array([[1, 1 / 3], [1 / 3, 1]]))


def naive_iou(one: Any, other: Any) -> float:
    """Return the shares of all orders in which tied cells can be read, and their overlap."""
    shares = []
    for grid in (one.ravel(), other.ravel()):
        places, share = -(-grid.size // 5), np.zeros(grid.size)
        for order in (np.random.default_rng(seed).permutation(grid.size) for seed in range(4000)):
            highest = sorted(order, key=lambda cell: -grid[cell])[:places]
            share[[cell for cell in highest if grid[cell] > grid.min()]] += 1 / 4000
        shares.append(share)
    return float(np.minimum(*shares).sum() / np.maximum(*shares).sum())


def test_ties_do_not_depend_on_the_order_of_reading(make_map: Any) -> None:
    random = np.random.default_rng(3)
    one, other = random.integers(0, 4, (2, 5, 5))
    found = iou(one, other)
    assert found == pytest.approx(naive_iou(one, other), abs=0.02)
    order = random.permutation(25)
    assert iou(one.ravel()[order], other.ravel()[order]) == pytest.approx(found)
    assert iou(one, one) == 1


def test_sparse_maps_are_compared_by_their_hot_cells_alone() -> None:
    one, other = np.zeros((2, 14, 14))
    one[0, :3], other[9, 4:7] = 1, 1
    assert iou(one, other) == 0
    other[0, 2] = 1
    assert iou(one, other) == pytest.approx(1 / 6)
    assert np.isnan(iou(np.zeros((4, 4)), np.zeros((4, 4))))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"method": "rise"}, "differ in their method (gradcam, rise)"),
        ({"model": "vit_base"}, "differ in their model (vit_tiny, vit_base)"),
        ({"changed": {"layers": 3}}, "differ in their layer (no layer, layer 3)"),
        ({"source": "b.pth"}, "differ in their weights (no weights, b.pth)"),
    ],
)
def test_a_column_of_different_things_is_refused(
    make_map: Any, change: dict[str, Any], told: str
) -> None:
    rows = [columns(make_map)[:2], columns(make_map, "a dog")[:2]]
    rows[1][0] = make_map(GRIDS[0], name="a dog", **{"method": "gradcam", **change})
    with pytest.raises(ConfigError) as error:
        agreement(rows)
    assert f"The maps of column 1 {told}" in str(error.value)


def test_rows_in_another_order_are_refused(make_map: Any) -> None:
    with pytest.raises(ConfigError, match="column 1 differ in their method"):
        agreement([columns(make_map), columns(make_map, "a dog")[::-1]])


def test_the_class_found_on_each_photo_may_differ(make_map: Any) -> None:
    def row(name: str, label: str, asked: Any) -> list[Any]:
        maps = [make_map(GRIDS[i], name=name, target=Target(1, label, 0.5)) for i in range(2)]
        maps[1] = replace(maps[1], method="rise")
        return [replace(m, provenance={**m.provenance, "target": asked}) for m in maps]

    assert agreement([row("cat", "tabby", "top1"), row("a dog", "pug", "top1")]).counts.max() == 2
    with pytest.raises(ConfigError, match="differ in their target"):
        agreement([row("cat", "tabby", "top1"), row("a dog", "pug", "top2")])


def test_the_mean_is_over_photos_with_signal(make_map: Any) -> None:
    second = [GRIDS[0], GRIDS[0], np.zeros((5, 6))]
    found = agreement([columns(make_map), columns(make_map, "a dog", second)])
    first = spearmanr(GRIDS[0].ravel(), GRIDS[1].ravel())[0]
    assert found.values[0, 1] == pytest.approx((first + 1) / 2, abs=1e-6)
    assert found.spread[0, 1] == pytest.approx((1 - first) / 2, abs=1e-6)
    assert found.counts.tolist() == [[2, 2, 1], [2, 2, 1], [1, 1, 1]]
    assert found.caption.endswith("mean over 2 photos.")


def test_the_matrix_is_drawn_with_its_numbers(make_map: Any, tmp_path: Any) -> None:
    grids = [GRIDS[0], -GRIDS[0], np.zeros((5, 6))]
    page = agreement_figure(agreement(columns(make_map, grids=grids)))
    said = [text.get_text() for text in page.texts]
    assert said.count("1.00") == 2
    assert said.count(f"{MINUS}1.00") == 2
    assert said.count("n/a") == 5
    squares = page.axes[0].patches
    colours = [square.get_facecolor() for square in squares]
    assert colours[0][0] > colours[0][2], "agreement is red"
    assert colours[1][2] > colours[1][0], "disagreement is blue"
    assert colours[8] == (1, 1, 1, 1)
    assert save(page, tmp_path / "matrix.pdf").stat().st_size > 1000


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"measure": "spearmen"}, "Did you mean 'spearman'?"),
        ({"labels": ["a"]}, "1 labels were given for 3 maps"),
    ],
)
def test_mistakes_are_named(make_map: Any, change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        agreement(columns(make_map), **change)
    assert told in str(error.value)


def test_one_map_agrees_with_nothing(make_map: Any) -> None:
    with pytest.raises(ConfigError, match="at least two maps"):
        agreement([make_map()])
