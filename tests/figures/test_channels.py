"""The sheet of a channel gate, by what it means: bars are gates, pictures are channels in order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image as PillowImage

from visattn.channels import ChannelRanking
from visattn.errors import ConfigError
from visattn.figures import save_channels
from visattn.figures.channels import chart, sheet
from visattn.geometry import Geometry
from visattn.images import Image, Size
from visattn.overlay import Style
from visattn.saliency import SaliencyMap

PHOTO = Size(60, 100)
GATES = np.array([0.2, 0.9, 0.5, 0.1, 0.7], np.float32)
ENERGY = np.array([1.0, 0.1, 4.0, 2.0, 1.0], np.float32)
BRANCHES = np.array([[0.25, 0.75, 0.5], [0.75, 0.25, 0.5]], np.float32)


def photo() -> Image:
    pixels = np.random.default_rng(0).integers(0, 256, (*PHOTO, 3), np.uint8)
    return Image(pixels, Path("cat.jpg"))


def ranking(**changes: Any) -> ChannelRanking:
    maps = np.zeros((2, 3, 5), np.float32)
    maps[0, 0, 0], maps[1, 2, 4] = 2.0, -1.0
    return replace(
        ChannelRanking("se", "channel", np.array([2, 4]), GATES, ENERGY, maps), **changes
    )


def a_map(channels: ChannelRanking | None) -> SaliencyMap:
    chain = Geometry.plain(PHOTO).with_grid(Size(3, 5))
    grid = np.arange(15, dtype=np.float32).reshape(3, 5)
    return SaliencyMap(grid, chain, "channel_gate", "net", signed=True, channels=channels)


def bars(channels: ChannelRanking) -> list[Any]:
    axes = Figure().add_subplot()
    chart(axes, channels)
    return list(axes.patches)


def test_the_tallest_bar_is_the_strongest_gate_and_marked_bars_are_the_ranked_channels() -> None:
    drawn = bars(ranking())
    every, marked = drawn[:5], drawn[5:]
    np.testing.assert_allclose([bar.get_height() for bar in every], sorted(GATES, reverse=True))
    assert {round(bar.get_height(), 4) for bar in marked} == {0.5, 0.7}
    assert {bar.get_facecolor() for bar in marked}.isdisjoint(bar.get_facecolor() for bar in every)


def test_energy_is_the_magnitude_of_what_passes_and_an_offset_is_said() -> None:
    negative = ranking(gates=GATES - 1)
    np.testing.assert_allclose(negative.passing, np.abs(GATES - 1) * ENERGY, rtol=1e-6)
    plus = replace(negative, offset=1.0)
    np.testing.assert_allclose(plus.passing, GATES * ENERGY, rtol=1e-6)
    figure = sheet(a_map(plus), plus, photo(), Style())
    assert figure.axes[0].get_title(loc="left").endswith("multiplies with 1 + gate")
    assert figure.axes[1].get_title() == "channel 2, gate -0.50\n62.7% of the energy"


def test_branches_are_stacked_to_their_sum() -> None:
    drawn = bars(ranking(kind="branch", gates=BRANCHES, energies=BRANCHES))
    first, second = drawn[:3], drawn[3:]
    np.testing.assert_allclose([bar.get_height() for bar in first], [0.75, 0.5, 0.25])
    for low, high in zip(first, second, strict=True):
        assert high.get_y() == pytest.approx(low.get_height())
        assert high.get_y() + high.get_height() == pytest.approx(1)


def test_pictures_are_the_channels_in_order_with_gate_and_share() -> None:
    figure = sheet(a_map(ranking()), ranking(), photo(), Style(interpolation="nearest"))
    _, first, second = figure.axes
    assert first.get_title() == "channel 2, gate 0.50\n62.7% of the energy"
    assert second.get_title() == "channel 4, gate 0.70\n21.9% of the energy"
    assert first.get_position().x0 < second.get_position().x0
    plain = photo().pixels.astype(int)
    changed = [
        np.abs(np.asarray(a.images[0].get_array())[..., :3] - plain) for a in (first, second)
    ]
    assert changed[0][:20, :20].mean() > 10
    assert changed[0][20:, 20:].max() == 0
    assert changed[1][40:, 80:].mean() > 5
    assert changed[1][40:, 80:].mean() < changed[0][:20, :20].mean()  # one scale for both


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".svg", b"<?xml")]
)
def test_the_same_map_gives_the_same_bytes(tmp_path: Path, suffix: str, start: bytes) -> None:
    written = []
    for name in ("one", "two"):
        path = tmp_path / f"{name}{suffix}"
        save_channels(a_map(ranking()), photo(), Style(caption=True), path)
        written.append(path.read_bytes())
    assert written[0] == written[1]
    assert written[0].startswith(start)
    if suffix == ".png":
        with PillowImage.open(path) as drawn:
            assert drawn.width > 1000


def test_a_map_without_channels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no ranking of channels; channel_gate"):
        save_channels(a_map(None), photo(), Style(), tmp_path / "sheet.png")


def test_a_ranking_cannot_be_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        ranking().gates[0] = 1
