"""Re-indexing: sparse matrices against their dense form, and what each builder hands on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from visattn.adapters import Reindex, TokenLayout
from visattn.adapters.swin import patch_merging
from visattn.images import Size
from visattn.tokens.resampling import convolved, interpolated, pooled, resampled, stencil
from visattn.tokens.windows import cut, cut_strided, padded, shifted, token_plane

GRID = Size(6, 10)


def some(rows: int, columns: int, seed: int) -> Reindex:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.rand(rows, columns, generator=generator)
    return Reindex.dense(matrix.where(matrix > 0.6, 0.0), normalised=True)


def test_applying_is_multiplying_from_the_left() -> None:
    one, row = some(7, 5, 1), torch.rand(3, 7, dtype=torch.float64)
    torch.testing.assert_close(one(row), row @ one.matrix())


def test_algebra_is_that_of_dense_matrices() -> None:
    one, other = some(7, 5, 1), some(5, 9, 2)
    torch.testing.assert_close(one.then(other).matrix(), one.matrix() @ other.matrix())
    torch.testing.assert_close(one.transposed().matrix(), one.matrix().T)
    torch.testing.assert_close(
        one.beside(other).matrix(), torch.block_diag(one.matrix(), other.matrix())
    )
    assert torch.equal(one.behind(2).matrix()[:2, :2], torch.eye(2, dtype=torch.float64))


def test_gathering_loses_what_has_no_place() -> None:
    index = torch.tensor([2, -1, 0])
    assert Reindex.gather(index, 4).sums.tolist() == [1, 0, 1]
    assert Reindex.gather(index, 4)(torch.tensor([[1.0, 2.0, 3.0]])).tolist() == [[3, 0, 1, 0]]


@pytest.mark.parametrize("shift", [(0, 0), (1, 2), (2, 0)])
def test_windows_put_every_token_in_exactly_one_slot(shift: tuple[int, int]) -> None:
    window = Size(4, 4)
    index = cut(padded(shifted(token_plane(GRID), shift), window), window)
    assert index.shape == (2 * 3, 16)
    assert sorted(index[index >= 0].tolist()) == list(range(60))
    keys = Reindex.gather(index, 60)
    row = torch.rand(1, 60, dtype=torch.float64)
    assert torch.equal(keys(keys.transposed()(row)), row)


def test_a_shifted_window_starts_at_the_shift() -> None:
    index = cut(shifted(token_plane(GRID), (2, 3)), Size(3, 5))
    assert index[0, 0] == 2 * 10 + 3
    assert index[0, 1] == 2 * 10 + 4
    assert index[0, 5] == 3 * 10 + 3


def test_a_strided_window_spreads_over_the_whole_plane() -> None:
    index = cut_strided(token_plane(GRID), Size(2, 5))
    assert index.shape == (6, 10)
    assert index[0].tolist() == [0, 2, 4, 6, 8, 30, 32, 34, 36, 38]


def linear(layer: nn.Module) -> torch.Tensor:
    """What a layer reads, by its own arithmetic: |d out / d in| (cell out, cell in)."""
    planes = torch.eye(60).reshape(60, 1, *GRID)
    return layer(planes).detach().abs().flatten(1).T.double()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(1, 1, 3, 2, 1, bias=False),
        nn.Conv2d(1, 1, 5, 3, 2, bias=False),
        nn.Conv2d(1, 1, (3, 2), (2, 1), (1, 0), bias=False),
        nn.Conv2d(1, 1, 3, 2, 2, dilation=2, bias=False),
        nn.AvgPool2d(3, 2, 1, count_include_pad=False),
        nn.AvgPool2d(2),
    ],
    ids=str,
)
def test_strided_layers_share_by_their_kernel(layer: nn.Module) -> None:
    found, grid = convolved(GRID, layer)
    right = linear(layer)
    assert grid.height * grid.width == len(right)
    torch.testing.assert_close(
        found.matrix(), right / right.sum(dim=1, keepdim=True), atol=1e-6, rtol=1e-5
    )


def test_patch_merging_gives_each_child_an_equal_share() -> None:
    layer = nn.Conv2d(1, 1, 2, 2, bias=False)
    found, grid = convolved(GRID, layer)
    assert grid == (3, 5)
    assert found.shares.tolist() == [0.25] * 60
    odd, grid = stencil(Size(5, 10), torch.ones(2, 2), (2, 2), after=(1, 0))
    assert grid == (3, 5)
    assert odd.matrix()[10, 40:42].tolist() == [0.5, 0.5]


def test_meta_weights_share_equally() -> None:
    with torch.device("meta"):
        layer = nn.Conv2d(1, 1, 3, 2, 1)
    found, _ = convolved(GRID, layer)
    torch.testing.assert_close(found.sums, torch.ones(15, dtype=torch.float64))


def test_pooling_drops_a_remainder() -> None:
    found, grid = pooled(Size(5, 7), 2)
    assert grid == (2, 3)
    assert found.transposed().sums.reshape(5, 7)[4].tolist() == [0] * 7


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "bicubic"])
def test_resizing_is_torchs(mode: str) -> None:
    found = interpolated(GRID, Size(9, 13), mode)
    assert found.size == (117, 60)
    torch.testing.assert_close(found.sums, torch.ones(117, dtype=torch.float64))
    peak = int(found.matrix()[0].argmax()), int(found.matrix()[-1].argmax())
    assert peak == (0, 59)


def test_adaptive_pooling_is_a_resize() -> None:
    found, grid = resampled(GRID, nn.AdaptiveAvgPool2d((3, 4)))
    assert grid == (3, 4)
    assert found.matrix()[0, [0, 1, 2, 10, 11, 12]].tolist() == pytest.approx([1 / 6] * 6)


@pytest.mark.parametrize("grid", [Size(6, 10), Size(5, 9)])
def test_swin_merges_what_its_children_are(grid: Size) -> None:
    layout = TokenLayout((), grid, (4.0, 4.0))
    step, after = patch_merging(layout)
    assert step.skip is not None
    cells = grid.height * grid.width
    planes = torch.eye(cells).reshape(cells, 1, *grid)
    odd = (0, grid.width % 2, 0, grid.height % 2)
    pooled_planes = nn.functional.avg_pool2d(nn.functional.pad(planes, odd), 2)
    right = pooled_planes.flatten(1).T.double()
    torch.testing.assert_close(step.skip.matrix(), right / right.sum(dim=1, keepdim=True))
    assert after.cell == (8.0, 8.0)
    assert after.grid == pooled_planes.shape[-2:]
