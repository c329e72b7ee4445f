"""What a click shows is what `visattn.capture` saw: read back from a real browser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from explorer_page import Explorer
from PIL import Image as PillowImage

import visattn
from tests import zoo
from visattn.explorer import export
from visattn.observation import AttentionRecord, capture

CLOSE = 1e-2  # what the page promises
NEAR = 6e-3  # what is proven at the export, and rounding


def model_of(name: str) -> visattn.Model:
    return visattn.load_model(zoo.build(name), image_size=zoo.size_of(name))


def made(model: visattn.Model, folder: Path, size: tuple[int, int], **options: Any) -> Any:
    """Return a page for noise of the model's input size, and the record of the same pass."""
    inputs = zoo.images(1, size)
    path = export(model, inputs, folder / "page.html", **options)
    return path, capture(model, inputs, gates=False)


def dense(record: AttentionRecord, step: Any) -> np.ndarray:
    """Return every head (head, token after, token before) of a step, re-indexed densely."""
    heads = []
    for placement in step.placements:
        weights = record.placed(placement).weights().double()
        queries, keys = placement.queries.matrix(), placement.keys.matrix()
        for head in range(weights.shape[1]):
            blocks = torch.block_diag(*weights[:, head])
            heads.append((queries @ blocks @ keys).numpy())
    return np.stack(heads)


def cell_centre(layout: Any, row: int, col: int) -> tuple[float, float]:
    """Return (x, y) on a photo that is the model's input itself."""
    return (col + 0.5) * layout.cell[1], (row + 0.5) * layout.cell[0]


def test_clicking_a_patch_of_a_plain_vit_shows_its_row(open_page: Any, tmp_path: Path) -> None:
    path, record = made(model_of("class"), tmp_path, zoo.SIZE)
    explorer: Explorer = open_page(path)
    for layer, (row, col) in [(2, (0, 4)), (0, (2, 1)), (1, (1, 3))]:
        explorer.set(layer=layer)
        explorer.click(*((np.array([col, row]) + 0.5) * 16), zoo.SIZE)
        token = 1 + row * 5 + col
        wanted = record[layer].weights()[0, :, token].numpy()
        assert np.abs(explorer.heads() - wanted).max() < NEAR < CLOSE
        largest = wanted.max(axis=-1, keepdims=True)
        assert (np.abs(explorer.heads() - wanted) <= 0.025 * largest + 1e-7).all()
        assert np.abs(explorer.row() - wanted.mean(axis=0)).max() < NEAR
        explorer.set(head=1)
        assert np.abs(explorer.row() - wanted[1]).max() < NEAR
        explorer.set(head=None)


FAMILIES = [
    "registers", "distilled", "qk_norm", "parallel", "eva_class", "beit_class", "beit_shared_bias",
    "swin", "swin_padded", "swin_v2", "swin_v2_cr", "maxvit", "maxvit_parallel", "coatnet",
    "cait", "crossvit", "pvt_v2",
]  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_rows_and_columns_of_every_layer(open_page: Any, tmp_path: Path, name: str) -> None:
    """Click the same photo position in every layer; compare with the dense re-indexed weights."""
    size = zoo.size_of(name)
    path, record = made(model_of(name), tmp_path, size)
    explorer: Explorer = open_page(path)
    chain = record.chain()
    x, y = size[1] * 0.62, size[0] * 0.31
    explorer.click(x, y, size)
    for layer, place in enumerate(chain.layers):
        step, after = chain.steps[place], chain.after(place)
        wanted = dense(record, step)
        explorer.set(layer=layer, view="to")
        token = token_under(after, x, y)
        if not wanted[:, token].any():
            assert "choose" in explorer.text("#empty")
        else:
            sums = max(float(p.queries.sums[token]) for p in step.placements)
            rows = on_grid(chain, place, wanted[:, token] / sums)
            assert np.abs(explorer.heads() - rows).max() < NEAR
        explorer.set(view="from")
        column = wanted[:, :, token_under(step.before, x, y)]
        assert np.abs(explorer.heads() - column).max() < NEAR
    for left, top in [(size[1] * 0.11, size[0] * 0.83), (x, y)]:  # sums of rows are known by now
        explorer.click(left, top, size)
        for layer, place in enumerate(chain.layers):
            explorer.set(layer=layer)
            step = chain.steps[place]
            column = dense(record, step)[:, :, token_under(step.before, left, top)]
            assert np.abs(explorer.heads() - column).max() < NEAR


def on_grid(chain: Any, place: int, rows: np.ndarray) -> np.ndarray:
    """Take rows over the tokens of two branches down to where the branches part."""
    if not chain.steps[place].before.suffix:
        return rows
    for step in reversed(chain.steps[:place]):
        rows = rows @ step.residual.matrix().numpy()
    return rows


def token_under(layout: Any, x: float, y: float) -> int:
    rows, cols = layout.grid
    row = min(int(y / layout.cell[0]), rows - 1)
    return int(layout.token(row, min(int(x / layout.cell[1]), cols - 1)))


WALKED = [
    "class", "registers", "mean", "swin_padded", "maxvit", "beit_mean", "latent_pool",
    "crossvit", "mobilenetv5_three_scales", "mobilevit_resized", "convit", "hiera",
]  # fmt: skip


@pytest.mark.parametrize("name", WALKED)
def test_rollout_is_that_of_the_method(open_page: Any, tmp_path: Path, name: str) -> None:
    size, model = zoo.size_of(name), model_of(name)
    path, record = made(model, tmp_path, size)
    explorer: Explorer = open_page(path)
    explorer.set(view="rollout", until=0)
    layout = record.chain().layout
    for cell in [(1, 2), (layout.grid.height - 1, 0)]:
        explorer.click(*cell_centre(layout, *cell), size)
        (found,) = visattn.explain(model, zoo.images(1, size), method="rollout", query=cell)
        assert relative(grid_of(explorer, layout), found.grid) < CLOSE
    (found,) = visattn.explain(model, zoo.images(1, size), method="rollout")
    explorer.press("r")
    assert relative(grid_of(explorer, layout), found.grid) < CLOSE


@pytest.mark.parametrize(
    "name", ["class", "registers_mean_all", "swin", "latent_pool", "headless", "crossvit"]
)
def test_the_row_that_the_head_reads(open_page: Any, tmp_path: Path, name: str) -> None:
    size, model = zoo.size_of(name), model_of(name)
    path, record = made(model, tmp_path, size)
    explorer: Explorer = open_page(path)
    explorer.press("r")
    for layer, place in enumerate(record.chain().layers):
        explorer.set(layer=layer)
        (found,) = visattn.explain(
            model, zoo.images(1, size), method="attention", layers=layer, heads="mean"
        )
        chain = record.chain()
        layout = chain.layout if chain.steps[place].before.suffix else chain.steps[place].before
        assert relative(grid_of(explorer, layout), found.grid) < CLOSE


def grid_of(explorer: Explorer, layout: Any) -> np.ndarray:
    return explorer.row()[layout.places].reshape(layout.grid)


def relative(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "wide.png"
    pixels = np.random.default_rng(1).integers(0, 256, (120, 260, 3), np.uint8)
    PillowImage.fromarray(pixels).resize((520, 240)).save(path)
    return path


def test_a_photograph_that_was_cropped(open_page: Any, tmp_path: Path, photograph: Path) -> None:
    """A click lands in the cell that `Geometry.cell_at` names, and outside the crop in none."""
    torch.manual_seed(0)
    model = visattn.load_model("test_vit", weights=None)
    path = export(model, photograph, tmp_path / "page.html")
    record = capture(model, photograph, gates=False)
    explorer: Explorer = open_page(path)
    (prepared,) = [model.prepare(record.images[0])]
    layout = record.chain().layout
    geometry = prepared.geometry.with_grid(layout.grid, layout.cell)
    for x, y in [(260, 120), (165, 30), (330, 220)]:
        explorer.click(x, y, (240, 520))
        row, col = geometry.cell_at(x, y)
        wanted = record[len(record) - 1].rows(layout.token(row, col))[0, :, 0].numpy()
        assert np.abs(explorer.heads() - wanted).max() < NEAR
    before = explorer.state("selection")
    explorer.click(20, 100, (240, 520))
    assert explorer.state("selection") == before
    explorer.page.wait_for_timeout(50)
    assert "did not see" in explorer.text("#status")


@pytest.mark.parametrize("name", ["cat.jpg", "cameraman.jpg"])
def test_a_trained_model(
    open_page: Any, tmp_path: Path, dinov2: visattn.Model, photos: Path, name: str
) -> None:
    """DINOv2-small on a cat, and on a photo that is stored lying on its side (EXIF)."""
    image = photos / name
    path = export(dinov2, image, tmp_path / "page.html")
    record = capture(dinov2, image, gates=False)
    explorer: Explorer = open_page(path)
    geometry = dinov2.prepare(record.images[0]).geometry
    width, height = explorer.page.evaluate("[photo.naturalWidth, photo.naturalHeight]")
    assert (height, width) == geometry.original
    for row, col in [(0, 0), (4, 9), (9, 13)]:
        y, x = geometry.input_to_original((row + 0.5) * 14, (col + 0.5) * 14)
        explorer.click(x, y, geometry.original)
        for layer in (0, 5, 11):
            explorer.set(layer=layer)
            wanted = record[layer].weights()[0, :, 1 + row * 14 + col].numpy()
            assert np.abs(explorer.heads() - wanted).max() < CLOSE
