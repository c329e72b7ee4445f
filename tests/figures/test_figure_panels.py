"""Panels: colours mean values in the right place, and words never collide."""

from __future__ import annotations

import subprocess
import sys
from itertools import combinations
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from visattn.errors import ConfigError, ImageError
from visattn.figures import arranged, figure, show, wrapped
from visattn.figures.panels import letter
from visattn.figures.shared_scale import MINUS
from visattn.images import Image
from visattn.saliency import SaliencyMap, Target

TOP = np.array(colormaps["viridis"](255)[:3]) * 255
PLAIN = {"photos": False, "base": "photo"}


def rasters(page: Figure) -> list[np.ndarray]:
    """Return the pictures of the panels in reading order, without colour bars."""
    found = [axes.images[0].get_array() for axes in page.axes if not axes.axison]
    return [np.asarray(each) for each in found]


def words(page: Figure) -> list[str]:
    return [text.get_text() for text in page.texts]


def boxes(page: Figure) -> tuple[list[Any], list[Any]]:
    """Return the extents of all words, and of all panels and bars, in pixels."""
    renderer = FigureCanvasAgg(page).get_renderer()
    page.draw(renderer)
    texts = [text.get_window_extent(renderer) for text in page.texts if text.get_text()]
    return texts, [axes.get_window_extent(renderer) for axes in page.axes]


def overlap(one: Any, other: Any) -> bool:
    wide = min(one.x1, other.x1) - max(one.x0, other.x0)
    high = min(one.y1, other.y1) - max(one.y0, other.y0)
    return wide > 1 and high > 1


def assert_tidy(page: Figure) -> None:
    texts, axes = boxes(page)
    width, height = page.get_size_inches() * page.dpi
    for one, other in combinations(texts, 2):
        assert not overlap(one, other), (one, other)
    for text in texts:
        assert not any(overlap(text, each) for each in axes)
        assert text.x0 >= -2, "letters are set on whole pixels"
        assert text.x1 <= width + 2
        assert text.y0 >= -2
        assert text.y1 <= height + 2
    for one, other in combinations(axes, 2):
        assert not overlap(one, other)


@pytest.mark.parametrize(("size", "crop"), [((60, 100), None), ((100, 60), None), ((60, 100), 0.8)])
def test_the_hottest_cell_has_the_hottest_colour_in_the_right_place(
    make_map: Any, size: tuple[int, int], crop: float | None
) -> None:
    grid = np.zeros((4, 6))
    grid[2, 4] = 0.03
    found = make_map(grid, size=size, crop=crop, tone=0)
    (drawn,) = rasters(figure(found, opacity=1, interpolation="nearest", **PLAIN))
    away = np.linalg.norm(drawn.astype(float) - TOP, axis=2)
    hot = np.argwhere(away < 3)
    scale = np.array(drawn.shape[:2]) / np.array(size)
    box = found.geometry.cell_box(2, 4)
    assert hot.min(axis=0) == pytest.approx(np.array(box[:2]) * scale, abs=1.01)
    assert hot.max(axis=0) + 1 == pytest.approx(np.array(box[2:]) * scale, abs=1.01)
    centre = np.array([box.top + box.bottom, box.left + box.right]) / 2 * scale
    assert hot.mean(axis=0) == pytest.approx(centre, abs=1)


def test_on_one_scale_the_same_value_has_the_same_colour(make_map: Any) -> None:
    low = make_map([[0, 1, 2], [0, 0, 0]], name="low")
    high = make_map([[0, 2, 4], [0, 0, 0]], name="high photo")
    flat = {**PLAIN, "interpolation": "nearest"}
    one, other = rasters(figure([low, high], scale="shared", **flat))
    height, width = one.shape[:2]
    two = one[height // 4, width * 5 // 6], other[height // 4, width // 2]
    assert np.array_equal(*two)
    one, other = rasters(figure([low, high], scale="panel", **flat))
    two = one[height // 4, width * 5 // 6], other[height // 4, width // 2]
    assert not np.array_equal(*two)


def test_signed_maps_are_drawn_around_zero(make_map: Any) -> None:
    found = make_map([[-1, 0, 2], [0, 0, 0]], signed=True, tone=200)
    page = figure(found, interpolation="nearest", opacity=1, **PLAIN)
    (drawn,) = rasters(page)
    height, width = drawn.shape[:2]
    left, middle, right = (drawn[height // 4, width * place // 6] for place in (1, 3, 5))
    assert np.array_equal(middle, (200, 200, 200))
    assert right[0] > right[2]
    assert left[2] > left[0]
    assert {f"{MINUS}2", "0", "2"} <= set(words(page))


@pytest.mark.parametrize("base", ["grey", "faded", "photo"])
def test_the_base_is_the_photo_where_the_map_is_zero(make_map: Any, base: str) -> None:
    found = make_map([[0, 0, 1], [0, 0, 0]], tone=None)
    (drawn,) = rasters(figure(found, photos=False, base=base, interpolation="nearest", dpi=100))
    corner = drawn[-20:, :20].astype(float)
    grey = np.ptp(corner, axis=2).max() < 1
    assert grey == (base == "grey")
    assert (corner.min() > 125) == (base == "faded")


def test_the_photo_stands_before_its_maps(make_map: Any) -> None:
    rows = [
        [make_map(name=name, tone=None, method=method) for method in ("gradcam", "layercam")]
        for name in ("cat", "a dog")
    ]
    page = figure(rows)
    assert len(rasters(page)) == 6
    assert words(page).count("photo") == 1
    across = figure([list(column) for column in zip(*rows, strict=True)])
    assert len(rasters(across)) == 6
    assert len(rasters(figure(rows, photos=False))) == 4


def test_each_fact_is_written_once_where_it_holds(make_map: Any) -> None:
    rows = [
        [
            make_map(name=name, method=method, target=Target(1, label, 0.5))
            for method in ("gradcam", "layercam")
        ]
        for name, label in (("cat", "tabby"), ("a dog", "terrier"))
    ]
    said = words(figure(rows))
    for once in ("cat", "tabby 0.50", "a dog", "terrier 0.50", "gradcam", "layercam"):
        assert said.count(once) == 1, once
    assert not any("vit_tiny" in each for each in said)


def test_a_class_of_one_panel_is_written_above_it(make_map: Any) -> None:
    labels = (("tabby", "tiger cat"), ("terrier", "collie"))
    rows = [
        [make_map(name=name, target=Target(1, label, 0.5)) for label in pair]
        for name, pair in zip(("cat", "a dog"), labels, strict=True)
    ]
    said = words(figure(rows))
    assert all(said.count(f"{label} 0.50") == 1 for pair in labels for label in pair)


def test_labels_can_be_given(make_map: Any) -> None:
    said = words(figure([[make_map(), make_map()]], rows=["(ours)"], columns=["A", "B"]))
    assert {"(ours)", "A", "B"} <= set(said)
    with pytest.raises(ConfigError, match="3 labels were given for 2 columns"):
        figure([make_map(), make_map()], columns=["a", "b", "c"])


def test_letters_count_the_panels(make_map: Any) -> None:
    said = words(figure([make_map(method="a"), make_map(method="b")], letters=True))
    assert [each for each in said if each.startswith("(")] == ["(a)", "(b)", "(c)"]
    assert [letter(index) for index in (0, 25, 26, 27, 701, 702)] == [
        "(a)", "(z)", "(aa)", "(ab)", "(zz)", "(aaa)",
    ]  # fmt: skip


LONG = "vit_base_patch16_clip_quickgelu_224.metaclip_2pt5b"


@pytest.mark.parametrize("width", ["single", "double", 2.0])
@pytest.mark.parametrize("scale", ["auto", "row", "column", "panel"])
@pytest.mark.parametrize("letters", [True, False])
def test_words_never_collide(make_map: Any, width: Any, scale: str, letters: bool) -> None:
    rows = [
        [
            make_map(
                np.arange(12).reshape(3, 4) * 1e-7,
                name=name,
                size=size,
                crop=0.9,
                model=model,
                target=Target(1, f"a very long name of a class of {name}", 0.123),
            )
            for model in (LONG, f"{LONG}_of_the_second_kind")
        ]
        for name, size in (("landscape", (60, 100)), ("a portrait with a long name", (120, 60)))
    ]
    assert_tidy(figure(rows, width=width, scale=scale, letters=letters, dpi=150))


def test_words_of_signed_and_silent_maps_do_not_collide(make_map: Any, silent: Any) -> None:
    signed = make_map(np.linspace(-1, 1, 12).reshape(3, 4), signed=True, method="input_x_gradient")
    assert_tidy(figure([make_map(), signed, silent], width="single", dpi=150))


def test_twelve_layers_are_wrapped_without_gaps(make_map: Any) -> None:
    maps = [make_map(changed={"layers": layer}) for layer in range(12)]
    assert [len(row) for row in wrapped(maps, 6)] == [6, 6]
    assert [len(row) for row in wrapped(maps, 5)] == [4, 4, 4]
    assert [len(row) for row in wrapped(maps[:3], 6)] == [3]
    assert [sum(each is None for each in row) for row in wrapped(maps[:7], 4)] == [0, 1]
    page = figure(wrapped(maps, 6), width="double")
    assert [f"layer {layer}" in words(page) for layer in range(12)] == [True] * 12
    assert_tidy(page)


def test_a_column_of_one_photo_is_no_tower(make_map: Any) -> None:
    column = [[make_map(changed={"layers": layer})] for layer in range(5)]
    assert [len(row) for row in arranged(column[:3], 6)] == [3]
    assert [len(row) for row in arranged(column[:3], 2)] == [2, 2]
    assert [len(row) for row in arranged(column, 3)] == [3, 3]
    assert [len(row) for row in arranged(column, 1)] == [1] * 5
    assert len(rasters(figure(arranged(column[:3], 6)))) == 4, "the photo and three maps"
    two = [[make_map()], [make_map(name="a dog")]]
    assert arranged(two, 6) is two
    assert arranged(column[:1], 6) is not None
    wide, high = figure(arranged(column[:3], 6)).get_size_inches()
    assert high < wide / 2


def test_labels_of_panels_replace_all_others(make_map: Any) -> None:
    maps = wrapped([make_map(changed={"layers": layer}) for layer in range(3)], 2)
    said = words(figure(maps, panels=["A", "B", "C"]))
    assert said[:3] == ["A", "B", "C"]
    assert not any("layer" in each for each in said)
    with pytest.raises(ConfigError, match="2 labels were given for 3 maps"):
        figure(maps, panels=["A", "B"])


def test_labels_belong_to_the_rows_that_were_given(make_map: Any) -> None:
    maps = [[None, None], [make_map(), make_map(method="b")], [None, None]]
    said = words(figure(maps, rows=["x", "y", "z"]))
    assert "y" in said
    assert not {"x", "z"} & set(said)
    with pytest.raises(ConfigError, match="2 labels were given for 3 rows"):
        figure(maps, rows=["x", "y"])


def test_the_label_of_a_low_row_can_be_read(make_map: Any) -> None:
    strip = make_map(name="panorama", size=(20, 600))
    page = figure([[strip, make_map(name="panorama", size=(20, 600), method="b")],
                   [make_map(), make_map(method="b")]])  # fmt: skip
    words = [text.get_text() for text in page.findobj(Text)]
    assert "panorama" in words


def test_columns_too_narrow_for_a_panel_are_refused(make_map: Any) -> None:
    maps = [make_map(changed={"layers": layer}) for layer in range(12)]
    for scale in ("auto", "row"):
        with pytest.raises(ConfigError, match=r"12 columns in 1.00 inches .*--width") as error:
            figure(maps, width=1, scale=scale, photos=False)
        assert "at least 0.15 wide" in str(error.value)
    assert figure(maps, width=2.5, photos=False)


def test_a_map_without_signal_says_so_and_joins_no_scale(make_map: Any, silent: Any) -> None:
    page = figure([make_map(), silent], photos=False, width="double")
    notices = [text.get_text() for axes in page.axes for text in axes.texts]
    assert notices == ["no signal: all cells are zero"]
    _, drawn = rasters(page)
    assert np.ptp(drawn.astype(int), axis=2).max() == 0, "something was painted"
    assert {"0", "1"} <= set(words(page))


def test_a_notice_without_room_keeps_its_first_words(make_map: Any) -> None:
    found = make_map(np.zeros((3, 4)), silence="a reason " * 60)
    page = figure(found, photos=False, width=1.0)
    assert page.axes[0].texts[0].get_text() == "no signal"


def test_the_unseen_part_is_not_painted(make_map: Any) -> None:
    (drawn,) = rasters(figure(make_map(np.eye(4), crop=0.5, tone=0), opacity=1, **PLAIN))
    edge = drawn[:, :10].astype(int)
    assert np.ptp(edge, axis=2).max() == 0
    assert np.ptp(edge) <= 4, "the photo's own contrast is the only one"


@pytest.mark.parametrize("query", [[1, 2], "Pixel(x=62.0, y=30)"])
def test_the_query_is_outlined(make_map: Any, query: Any) -> None:
    page = figure(make_map(changed={"query": query}), photos=False)
    corners = {patch.get_xy() for patch in page.axes[0].patches}
    assert corners == {(50.0, 20.0)}


def test_contours_are_vectors(make_map: Any) -> None:
    page = figure(make_map(), photos=False, contours=[0.25, 0.5])
    casing, line = page.axes[0].collections
    assert len(line.get_paths()) == len(casing.get_paths()) == 2
    for path in line.get_paths():
        assert path.vertices[:, 0].max() <= 100
        assert path.vertices[:, 1].max() <= 60


def test_show_draws_on_the_axes_it_is_given(make_map: Any) -> None:
    page = Figure()
    left, right = page.subplots(1, 2)
    scale = show(make_map(np.arange(12).reshape(3, 4)), right, base="photo", contours=True)
    assert not left.images
    assert right.get_xlim() == (0, 100)
    assert right.get_ylim() == (60, 0)
    assert (scale.norm.vmin, scale.norm.vmax) == (0, 11)
    bar = page.colorbar(scale, ax=right)
    assert bar.vmax == 11


@pytest.mark.parametrize("signed", [False, True])
def test_the_bar_of_show_is_as_faint_as_the_paint(make_map: Any, signed: bool) -> None:
    grid = np.array([[-2.0 if signed else 0.0, 0.5, 1.0, 2.0]])
    found = make_map(grid, tone=255, signed=signed)
    axes = Figure().subplots()
    options = {"base": "photo", "interpolation": "nearest", "opacity": 0.6, "unseen": "none"}
    scale = show(found, axes, **options)
    drawn = np.asarray(axes.images[0].get_array())
    for column, value in enumerate(grid[0]):
        painted = drawn[30, round(drawn.shape[1] * (column + 0.5) / 4)]
        assert scale.to_rgba(value, bytes=True)[:3] == pytest.approx(painted, abs=3)


def test_pyplot_is_neither_loaded_nor_touched(make_map: Any) -> None:
    code = (
        "import visattn.figures as f, sys, numpy as np\n"
        "from visattn.geometry import Geometry\nfrom visattn.images import Image, Size\n"
        "from visattn.saliency import SaliencyMap\n"
        "photo = Image(np.zeros((8, 8, 3), np.uint8))\n"
        "chain = Geometry.plain(Size(8, 8)).with_grid(Size(2, 2))\n"
        "f.figure(SaliencyMap(np.eye(2), chain, 'a', 'b', photo=photo))\n"
        "print([name in sys.modules for name in ('matplotlib.pyplot', 'torch')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[False, False]"


def test_open_figures_and_settings_are_left_alone(make_map: Any) -> None:
    from matplotlib import pyplot as plt

    numbers, settings = plt.get_fignums(), dict(mpl.rcParams)
    figure(make_map())
    show(make_map(), Figure().subplots())
    assert plt.get_fignums() == numbers
    assert dict(mpl.rcParams) == settings


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"width": "triple"}, "width='triple': give 'single', 'double' or a number of inches"),
        ({"width": 0.2}, "1 to 40 inches"),
        ({"venue": "cvrp"}, "Did you mean 'cvpr'?"),
        ({"scale": "rows"}, "Did you mean 'row'?"),
        ({"base": "gray"}, "Did you mean 'grey'?"),
        ({"dpi": 5}, "dpi is a number from 50 to 2400"),
        ({"letters": 1}, "letters is true or false"),
        ({"colourmap": "jet"}, "Did you mean 'colormap'?"),
        ({"limits": [0, 1], "scale": "row"}, "fix one scale for all panels"),
    ],
)
def test_wrong_options_are_named(make_map: Any, change: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as error:
        figure(make_map(), **change)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("rows", "told"),
    [([], "at least one map"), ([[None]], "at least one map"), (["cat.jpg"], "not of str")],
)
def test_what_is_no_figure_is_refused(rows: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        figure(rows)


def test_rows_of_unequal_length_are_refused(make_map: Any) -> None:
    with pytest.raises(ConfigError, match=r"these have 2, 1 maps"):
        figure([[make_map(), make_map()], [make_map()]])


def test_another_photo_is_refused(make_map: Any) -> None:
    other = Image(np.zeros((50, 50, 3), np.uint8))
    with pytest.raises(ImageError, match="50 x 50 pixels, but the map belongs to one of 100 x 60"):
        show(make_map(), Figure().subplots(), photo=other)
    gone = SaliencyMap(np.eye(2), make_map(np.eye(2)).geometry, "a", "b")
    with pytest.raises(ImageError, match="does not know its photo"):
        figure(gone)
