"""Vector pages: the photo keeps its pixels, text is vectors, the same map gives the same bytes."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image as PillowImage

from visattn.figures import save_page
from visattn.geometry import Geometry
from visattn.images import Image, Size
from visattn.overlay import Style, draw
from visattn.saliency import SaliencyMap, Target

PHOTO = Size(60, 100)
GRID = np.arange(24, dtype=np.float32).reshape(4, 6) / 1000
STYLE = Style(caption=True, colorbar=True)


def photo(name: str = "cat.jpg") -> Image:
    pixels = np.random.default_rng(0).integers(0, 256, (*PHOTO, 3), np.uint8)
    return Image(pixels, Path(name))


def a_map(grid: Any = GRID, **facts: Any) -> SaliencyMap:
    grid = np.asarray(grid, np.float32)
    chain = Geometry.plain(PHOTO).with_grid(Size(*grid.shape))
    facts = {"target": Target(285, "Egyptian cat", 0.77), **facts}
    return SaliencyMap(grid, chain, "gae", "vit_small", **facts)


def page(folder: Path, suffix: str, found: SaliencyMap | None = None, style: Style = STYLE) -> Path:
    path = folder / f"page{suffix}"
    save_page(found or a_map(), photo(), style, path)
    return path


def tree(svg: Path) -> ET.Element:
    return ET.fromstring(svg.read_bytes())  # noqa: S314  written a moment ago


def size_of(svg: Path) -> tuple[float, float]:
    """Return width and height of an SVG in points."""
    root = tree(svg).attrib
    return float(root["width"].rstrip("pt")), float(root["height"].rstrip("pt"))


def picture(svg: Path) -> np.ndarray:
    """Return the raster of the photo's size in an SVG, upright."""
    found = []
    for node in tree(svg).iter("{http://www.w3.org/2000/svg}image"):
        encoded = node.attrib["{http://www.w3.org/1999/xlink}href"].split(",", 1)[1]
        with PillowImage.open(io.BytesIO(base64.b64decode(encoded))) as opened:
            flipped = "scale(1 -1)" in node.attrib.get("transform", "")
            array = np.asarray(opened.convert("RGB"))
            found.append(array[::-1] if flipped else array)
    (photo_sized,) = (array for array in found if array.shape == (*PHOTO, 3))
    return photo_sized


def test_a_pdf_embeds_its_fonts_as_outlines_that_can_be_selected(tmp_path: Path) -> None:
    data = page(tmp_path, ".pdf").read_bytes()
    assert data.startswith(b"%PDF-")
    assert data.rstrip().endswith(b"%%EOF")
    assert b"/FontFile2" in data
    assert b"/Type3" not in data


def test_an_svg_is_well_formed_and_needs_no_font(tmp_path: Path) -> None:
    path = page(tmp_path, ".svg")
    assert tree(path).tag.endswith("svg")
    assert "<text" not in path.read_text(encoding="utf-8")


def test_the_picture_is_the_overlay_pixel_by_pixel(tmp_path: Path) -> None:
    overlay = np.asarray(draw(a_map(), photo(), replace(STYLE, caption=False, colorbar=False)))
    assert np.array_equal(picture(page(tmp_path, ".svg")), overlay)


@pytest.mark.parametrize("suffix", [".pdf", ".svg"])
def test_the_same_map_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    first = page(tmp_path, suffix).read_bytes()
    assert page(tmp_path, suffix).read_bytes() == first
    assert b"20" + b"26-" not in first, "a date was written"


@pytest.mark.parametrize("suffix", [".pdf", ".svg"])
def test_another_map_gives_other_bytes(tmp_path: Path, suffix: str) -> None:
    first = page(tmp_path, suffix).read_bytes()
    assert page(tmp_path, suffix, a_map(GRID[::-1])).read_bytes() != first


def test_caption_and_colour_bar_stand_below_the_photo(tmp_path: Path) -> None:
    bare = size_of(page(tmp_path, ".svg", style=Style()))
    bar = size_of(page(tmp_path, ".svg", style=Style(colorbar=True)))
    both = size_of(page(tmp_path, ".svg"))
    assert bare[0] / bare[1] == pytest.approx(PHOTO.width / PHOTO.height, rel=0.03)
    assert bare[1] + 5 < bar[1]
    assert bar[1] + 5 < both[1]
    assert both[0] == pytest.approx(bare[0], abs=20)


def test_a_long_caption_is_wrapped_and_does_not_widen_the_page(tmp_path: Path) -> None:
    plain = size_of(page(tmp_path, ".svg"))
    wordy = a_map(warnings=("this warning is long and says it again. " * 12,))
    width, height = size_of(page(tmp_path, ".svg", wordy))
    assert width == pytest.approx(plain[0], abs=20)
    assert height > plain[1] + 20


def test_a_map_without_signal_has_no_colour_bar(tmp_path: Path) -> None:
    flat = a_map(np.zeros((4, 6)), warnings=("no signal: all cells are zero",))
    bar = page(tmp_path, ".svg", flat, Style(colorbar=True)).read_bytes()
    assert page(tmp_path, ".svg", flat, Style()).read_bytes() == bar


@pytest.mark.parametrize("label", ["$x$ & <b>", "a_b^{c", "\\frac{1}{2}$", "naïve café"])
@pytest.mark.parametrize("suffix", [".pdf", ".svg"])
def test_labels_are_text_and_not_formulas(tmp_path: Path, suffix: str, label: str) -> None:
    path = page(tmp_path, suffix, a_map(target=Target(1, label, 0.5)))
    assert path.stat().st_size > 1000


def test_a_label_that_the_font_cannot_write_does_not_stop_the_page(tmp_path: Path) -> None:
    for suffix in (".pdf", ".svg"):
        assert page(tmp_path, suffix, a_map(target=Target(1, "猫 🐈", 0.5))).is_file()


def test_signed_and_unseen_maps_are_drawn(tmp_path: Path) -> None:
    chain = Geometry.plain(PHOTO).with_grid(Size(4, 6), cell=(12.0, 12.0))
    found = replace(a_map(GRID - 0.01, signed=True), geometry=chain)
    overlay = np.asarray(draw(found, photo(), Style()))
    assert np.array_equal(picture(page(tmp_path, ".svg", found)), overlay)


def test_the_settings_of_matplotlib_are_left_alone(tmp_path: Path) -> None:
    before = dict(mpl.rcParams)
    page(tmp_path, ".pdf")
    assert dict(mpl.rcParams) == before


def test_pyplot_is_not_loaded() -> None:
    code = "import visattn.figures, sys; print('matplotlib.pyplot' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not supported"):
        page(tmp_path, ".docx")
    assert list(tmp_path.iterdir()) == []
