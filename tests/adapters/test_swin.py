"""Shifted windows: relevance does not cross the border that the mask of the model forbids."""

from __future__ import annotations

import pytest
import torch

import visattn
from tests import zoo
from visattn.methods.walk import Walk
from visattn.observation import capture

ROWS, COLS = 16, 24


@pytest.mark.parametrize("name", ["swin", "swin_v2", "swin_v2_cr"])
@pytest.mark.parametrize(("row", "col"), [(0, 0), (0, 23), (15, 0), (15, 23), (1, 12)])
def test_relevance_never_leaks_across_the_cyclic_border(name: str, row: int, col: int) -> None:
    """One lit token at the edge: rolled windows hold both edges, the mask keeps them apart."""
    size = zoo.size_of(name)
    model = visattn.load_model(zoo.build(name), image_size=size)
    walk = Walk.of(capture(model, zoo.images(1, size)))
    step = walk.chain.steps[1]
    assert tuple(step.before.grid) == (ROWS, COLS)
    lit = step.before.one(step.before.token(row, col))[None]
    found = step.before.to_grid(walk.attended(step, lit))[0]
    rows, cols = (found > 1e-12).nonzero().unbind(dim=1)
    # Windows of 4 shifted by 2: rows 0-1 and 14-15 share windows, and are masked from each other.
    assert {(int(r) + 2) // 4 for r in rows} == {(row + 2) // 4}
    assert {(int(c) + 2) // 4 for c in cols} == {(col + 2) // 4}
    assert found.sum() == pytest.approx(1, abs=1e-5)
    window = (2 if row in (0, 1, 14, 15) else 4) * (2 if col in (0, 1, 22, 23) else 4)
    assert len(torch.unique(rows * COLS + cols)) == window
