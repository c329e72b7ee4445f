"""The control of edges against a loop over pixels."""

from __future__ import annotations

import numpy as np
import pytest
from torchvision.transforms import ToTensor

import visattn
from tests import zoo
from visattn.geometry import Affine, Geometry
from visattn.images import Image, Size
from visattn.methods.edges import strength

KERNEL = np.array([[1, 2, 1], [0, 0, 0], [-1, -2, -1]]) / 4


def sobel_by_hand(luminance: np.ndarray) -> np.ndarray:
    """``sqrt((gx^2 + gy^2) / 2)`` pixel by pixel; the border is mirrored, edge pixel included."""
    padded = np.pad(luminance, 1, mode="symmetric")
    found = np.zeros_like(luminance)
    for row in range(luminance.shape[0]):
        for col in range(luminance.shape[1]):
            near = padded[row : row + 3, col : col + 3]
            gy, gx = (near * KERNEL).sum(), (near * KERNEL.T).sum()
            found[row, col] = np.sqrt((gx**2 + gy**2) / 2)
    return found


def luminance(pixels: np.ndarray) -> np.ndarray:
    return pixels.astype(float) @ np.array([0.2125, 0.7154, 0.0721]) / 255


def cell_means(values: np.ndarray, rows: int, cols: int) -> np.ndarray:
    height, width = values.shape[0] // rows, values.shape[1] // cols
    return np.array(
        [
            [
                values[r * height : (r + 1) * height, c * width : (c + 1) * width].mean()
                for c in range(cols)
            ]
            for r in range(rows)
        ]
    )


def noise(height: int, width: int) -> np.ndarray:
    generator = np.random.default_rng(3)
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def geometry(photo: Size, size: Size, grid: Size, back: Affine) -> Geometry:
    return Geometry(size, size, photo, Affine(), back).with_grid(grid)


def test_edges_of_an_input_sized_photo_literally() -> None:
    pixels = noise(12, 20)
    size = Size(12, 20)
    found = strength(Image(pixels), geometry(size, size, Size(3, 5), Affine()))
    right = cell_means(sobel_by_hand(luminance(pixels)), 3, 5)
    np.testing.assert_allclose(found, right, rtol=1e-5)


def test_edges_are_those_at_the_resolution_of_the_input() -> None:
    """A photo of twice the size, cropped: blocks of 2 x 2 pixels are averaged first."""
    pixels = noise(32, 44)
    back = Affine((2.0, 2.0), (4.0, 2.0))
    found = strength(Image(pixels), geometry(Size(32, 44), Size(12, 20), Size(3, 5), back))
    small = cell_means(luminance(pixels)[4:28, 2:42], 12, 20)
    np.testing.assert_allclose(found, cell_means(sobel_by_hand(small), 3, 5), rtol=1e-5)


def test_padding_around_a_photo_is_no_edge() -> None:
    grey = np.full((8, 20, 3), 200, np.uint8)
    padded = geometry(Size(8, 20), Size(16, 20), Size(4, 5), Affine(offset=(-4.0, 0.0)))
    assert not strength(Image(grey), padded).any()
    found = strength(Image(noise(8, 20)), padded)
    assert not found[[0, 3]].any()
    assert (found[1:3] > 0).all()


def test_a_vertical_border_lies_in_its_column_of_cells() -> None:
    pixels = np.zeros((48, 80, 3), np.uint8)
    pixels[:, 40:] = 255
    model = visattn.load_model(zoo.build("class"), image_size=zoo.SIZE, transform=ToTensor())
    (found,) = visattn.explain(model, pixels, method="edges")
    assert found.grid.shape == zoo.GRID
    assert (found.grid[:, 2] > 0).all()
    assert not found.grid[:, [0, 1, 3, 4]].any()
    assert found.grid.max() <= 1
    assert not found.signed
    assert found.target is None


@pytest.mark.parametrize("name", ["swin_padded", "efficientnet", "class"])
def test_edges_need_no_class_and_fit_every_grid(name: str) -> None:
    model = visattn.load_model(zoo.build(name), image_size=zoo.size_of(name))
    maps = visattn.explain(model, zoo.images(2, zoo.size_of(name)), method="edges")
    assert all(np.isfinite(found.grid).all() and found.grid.any() for found in maps)
    assert (maps[0].grid != maps[1].grid).any()
