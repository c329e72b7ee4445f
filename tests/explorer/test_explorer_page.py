"""The explorer in a real browser: pointer, touch, keys, controls, names that bite, sizes."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from explorer_page import Explorer
from PIL import Image as PillowImage

import visattn
import visattn.explorer.page as page_file
from tests import zoo
from visattn.explorer import export
from visattn.observation import capture

SIZE = (240, 360)
HOSTILE = [
    '"><img src=x onerror=alert(1)>.png',
    "<script>alert(1)<b>.png",
    "<!--<script>.png",
    "späß 写真 🐈.png",
    "{{ 7 * 7 }}{% raw %}.png",
    os.fsdecode(b"latin-\xe9-1.png"),
]


def picture(path: Path) -> Path:
    rows, cols = np.mgrid[: SIZE[0], : SIZE[1]]
    pixels = np.stack([rows % 256, cols % 256, (rows * cols // 97) % 256], axis=2)
    PillowImage.fromarray(pixels.astype(np.uint8)).save(path)
    return path


@pytest.fixture(scope="module")
def vit() -> visattn.Model:
    torch.manual_seed(0)
    return visattn.load_model("test_vit", weights=None, device="cpu")


@pytest.fixture(scope="module")
def made(vit: visattn.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    return export(vit, picture(folder / "ant.png"), folder / "page.html", target="Egyptian cat")


@pytest.fixture
def page(open_page: Any, made: Path) -> Explorer:
    found: Explorer = open_page(made)
    return found


def chosen(explorer: Explorer) -> str:
    return explorer.text("#chosen")


def test_no_name_is_given_twice_in_the_scripts() -> None:
    """They share one scope, where a second function silently takes the first one's place."""
    folder = Path(page_file.__file__).parent
    declared = re.compile(r"^(?:async )?(?:function\*?|const|let|class) (\w+)", re.MULTILINE)
    names = [
        name
        for file in page_file.SCRIPTS
        for name in declared.findall((folder / file).read_text(encoding="utf-8"))
    ]
    assert len(names) > 100
    assert {name for name in names if names.count(name) > 1} == set()


def test_it_opens_on_the_patch_in_the_middle(page: Explorer) -> None:
    assert page.text("h1") == "ant.png"
    assert "160 \u00d7 160 input" in page.text("#facts")
    assert chosen(page) == "Patch in row 5, column 5"
    assert page.locator_count("#layers button") == 6
    assert page.locator_count("#heads button") == 3
    assert re.search(r"looks most at row \d+, column \d+ \(", page.text("#status"))


def test_a_drag_is_the_mean_of_a_region(page: Explorer, vit: visattn.Model, made: Path) -> None:
    record = capture(vit, made.parent / "ant.png", gates=False)
    geometry = vit.prepare(record.images[0]).geometry
    (top, left), (bottom, right) = (geometry.grid_to_original(*at) for at in [(20, 36), (60, 92)])
    page.drag((left, top), (right, bottom), SIZE)
    assert chosen(page) == "Region of 12 patches"
    tokens = [1 + row * 10 + col for row in (1, 2, 3) for col in (2, 3, 4, 5)]
    wanted = record[5].rows(tokens)[0].mean(dim=1).numpy()
    assert np.abs(page.heads() - wanted).max() < 6e-3


def test_keys(page: Explorer) -> None:
    page.press("ArrowRight", "ArrowUp", "ArrowUp")
    assert chosen(page) == "Patch in row 3, column 6"
    page.press(*["ArrowLeft"] * 12)
    assert chosen(page) == "Patch in row 3, column 0"
    page.press("[", "[")
    assert page.text("#layer-now") == "3 of 0 … 5"
    page.press("]")
    assert page.state("layer") == 4
    page.press(".", ".")
    assert page.text("#head-now") == "1 of 0 … 1"
    page.press(",")
    assert page.state("head") == 0
    page.press("m")
    assert page.text("#head-now") == "mean of 2"
    for key, view in [("2", "from"), ("3", "rollout"), ("4", "norms"), ("1", "to")]:
        page.press(key)
        assert page.state("view") == view
    page.press("c")
    assert page.state("selection") == {"kind": "prefix", "name": "class"}
    page.press("r")
    assert page.state("selection") == {"kind": "read"}
    page.press("h", "o")
    assert (page.state("heat"), page.state("marks")) == (False, False)
    page.press("?")
    assert page.page.locator("#help").is_visible()
    page.press("Escape", "ArrowDown")
    assert not page.page.locator("#help").is_visible()
    assert chosen(page) == "Patch in row 5, column 5"


def test_the_photo_can_be_reached_and_steered_without_a_mouse(page: Explorer) -> None:
    for _ in range(12):
        page.press("Tab")
        if page.page.evaluate("document.activeElement.id") == "stage":
            break
    else:
        pytest.fail("Tab does not reach the photo")
    ring = page.page.locator("#stage").evaluate("each => getComputedStyle(each).outlineStyle")
    assert ring == "solid"
    page.press("ArrowDown")
    assert chosen(page) == "Patch in row 6, column 5"


def test_sliders_and_selects(page: Explorer) -> None:
    page.page.locator("#layer").fill("1")
    page.settle()
    assert page.text("#layer-now") == "1 of 0 … 5"
    assert page.text("#layer-names").startswith("blocks.1.attn")
    page.page.locator("#opacity").fill("20")
    page.settle()
    assert (page.state("opacity"), page.text("#opacity-value")) == (0.2, "20 %")
    before = page.text("#legend")
    page.page.select_option("#scale", "percentile")
    page.settle()
    assert "≥" in page.text("#legend") != before
    page.page.select_option("#scale", "logarithm")
    page.page.select_option("#colormap", "inferno")
    page.page.locator("#smooth").check()
    page.settle()
    assert page.state("colormap") == "inferno"
    assert page.state("smooth") is True
    page.page.locator("#layers button").nth(3).click()
    page.page.locator("#heads button").nth(2).click()
    page.settle()
    assert (page.state("layer"), page.state("head")) == (3, 1)
    assert "Layer 3, head 1." in page.text("#status")


def painted(explorer: Explorer, place: str) -> int:
    """Return how many pixels of a canvas are not transparent."""
    count: int = explorer.page.locator(place).first.evaluate(
        """(canvas) => {
        const copy = new OffscreenCanvas(canvas.width, canvas.height);
        const context = copy.getContext("2d", { willReadFrequently: true });
        context.drawImage(canvas, 0, 0);
        const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
        let found = 0;
        for (let i = 3; i < pixels.length; i += 4) found += pixels[i] > 0;
        return found;
    }"""
    )
    return count


def test_the_heat_lies_exactly_on_the_photo_and_can_be_hidden(page: Explorer) -> None:
    boxes = page.page.evaluate(
        """() => ["photo", "heat"].map((id) => {
        const box = document.getElementById(id).getBoundingClientRect();
        return [box.x, box.y, box.width, box.height].join();
    })"""
    )
    assert boxes[0] == boxes[1]
    shown = painted(page, "#heat")
    page.press("h", "o")
    assert 0 < painted(page, "#heat") < shown


def thickness(explorer: Explorer, grid: tuple[int, int]) -> np.ndarray:
    """Return the opacity (row, col) of the heat in the middle of each cell of the input."""
    opacities = explorer.page.evaluate(
        """([rows, cols]) => {
        const canvas = document.getElementById("heat");
        const copy = new OffscreenCanvas(canvas.width, canvas.height);
        const context = copy.getContext("2d", { willReadFrequently: true });
        context.drawImage(canvas, 0, 0);
        return Array.from({ length: rows * cols }, (_, i) => {
            const y = (Math.floor(i / cols) + 0.5) / rows, x = ((i % cols) + 0.5) / cols;
            return context.getImageData(x * canvas.width, y * canvas.height, 1, 1).data[3];
        });
    }""",
        list(grid),
    )
    return np.array(opacities).reshape(grid)


@pytest.mark.parametrize("view", ["to", "rollout"])
def test_the_heat_of_a_cell_stands_on_that_cell(open_page: Any, tmp_path: Path, view: str) -> None:
    model = visattn.load_model(zoo.build("class"), image_size=zoo.SIZE)
    explorer: Explorer = open_page(export(model, zoo.images(1), tmp_path / "page.html"))
    explorer.set(view=view, marks=False, selection={"kind": "read"})
    values = explorer.row()[1:].reshape(zoo.GRID)
    wanted = 255 * 0.85 * (0.12 + 0.88 * values / values.max())
    assert np.abs(thickness(explorer, zoo.GRID) - wanted).max() < 2
    explorer.set(scale="logarithm")
    places = np.clip(np.log10(values / values.max() * 1000) / 3, 0, 1)
    wanted = 255 * 0.85 * (0.12 + 0.88 * places)
    assert np.abs(thickness(explorer, zoo.GRID) - wanted).max() < 2


def test_the_picture_can_be_saved(page: Explorer, tmp_path: Path) -> None:
    page.set(layer=2, head=1)
    with page.page.expect_download() as waiting:
        page.press("s")
    assert waiting.value.suggested_filename == "ant.png to layer 2 head 1.png"
    waiting.value.save_as(tmp_path / "saved.png")
    width, height = page.box()[2:]
    with PillowImage.open(tmp_path / "saved.png") as saved:
        assert saved.size == (round(2 * width), round(2 * height))
        shades = np.asarray(saved.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(shades, axis=0)) > 100


def test_classes_and_the_one_that_was_asked(page: Explorer) -> None:
    rows = page.page.locator(".class").all_inner_texts()
    assert len(rows) == 6
    assert rows[-1].startswith("Egyptian cat")
    assert all("%" in row for row in rows)


def test_prefix_tokens_have_buttons_with_their_share(open_page: Any, tmp_path: Path) -> None:
    model = visattn.load_model(zoo.build("registers"), image_size=zoo.SIZE)
    inputs = zoo.images(1)
    explorer: Explorer = open_page(export(model, inputs, tmp_path / "page.html"))
    names = [
        text.split("\n")[0] for text in explorer.page.locator("#tokens button").all_inner_texts()
    ]
    assert names == ["Head reads: class token", "class", *(f"register {i}" for i in range(1, 5))]
    explorer.page.get_by_role("button", name="register 2").click()
    explorer.settle()
    wanted = capture(model, inputs, gates=False)[2].weights()[0, :, 2].numpy()
    assert np.abs(explorer.heads() - wanted).max() < 6e-3
    share = explorer.page.locator("#tokens button", has_text="class").nth(1).inner_text()
    assert float(share.split("\n")[1]) == pytest.approx(wanted.mean(axis=0)[0], abs=6e-3)


def test_norms_and_outlier_tokens(page: Explorer, vit: visattn.Model, made: Path) -> None:
    page.set(view="norms", layer=2)
    (found,) = visattn.explain(vit, made.parent / "ant.png", method="rollout")
    numbers = page.text("#numbers")
    assert "Median norm" in numbers
    high = re.search(r"High-norm tokens\s+(\d+)", numbers)
    assert high is not None
    assert int(high[1]) == found.statistics["norm_outliers"][2]
    assert page.row()[1:].min() > 0


def test_the_window_of_a_windowed_model(open_page: Any, tmp_path: Path) -> None:
    size = zoo.size_of("swin")
    model = visattn.load_model(zoo.build("swin"), image_size=size)
    explorer: Explorer = open_page(export(model, zoo.images(1, size), tmp_path / "page.html"))
    explorer.set(layer=0)
    explorer.click(50, 20, size)
    held = explorer.window().reshape(16, 24)
    assert held[4:8, 12:16].all()
    assert held.sum() == 16
    explorer.set(layer=1)
    shifted = explorer.window().reshape(16, 24)
    assert shifted.sum() == 16
    assert shifted[2:6, 10:14].all()


def test_a_rollout_needs_no_layer_that_is_not_there(open_page: Any, tmp_path: Path) -> None:
    model, inputs = visattn.load_model(zoo.build("class"), image_size=zoo.SIZE), zoo.images(1)
    path = export(model, inputs, tmp_path / "page.html", layers=[0, 2])
    explorer: Explorer = open_page(path)
    assert "2 of 3 layers in this file" in explorer.text("#facts")
    explorer.set(view="rollout", until=0, selection={"kind": "point", "y": 8, "x": 40})
    (found,) = visattn.explain(model, inputs, method="rollout", layers=[0, 2], query=(0, 2))
    assert explorer.row()[1:] == pytest.approx(found.grid.ravel(), abs=3e-3)


def test_the_last_question_is_the_one_that_is_answered(
    page: Explorer, vit: visattn.Model, made: Path
) -> None:
    """Questions are asked faster than they are answered; no late answer stands in the wrong map."""
    record = capture(vit, made.parent / "ant.png", gates=False)
    for view in ("from", "rollout", "to"):
        page.page.evaluate(
            """(view) => {
            const at = (y, x) => ({ kind: "point", y, x });
            for (const y of [8, 24, 40, 56]) visattn.set({ view, selection: at(y, 8) });
            visattn.set({ view: "to", selection: at(72, 24) });
        }""",
            view,
        )
        page.settle()
        for layer in range(6):
            page.set(layer=layer)
            wanted = record[layer].rows(1 + 4 * 10 + 1)[0, :, 0].numpy()
            assert np.abs(page.heads() - wanted).max() < 6e-3


def test_what_cannot_be_shown_says_why(open_page: Any, tmp_path: Path) -> None:
    model = visattn.load_model(zoo.build("latent_pool"), image_size=zoo.SIZE)
    explorer: Explorer = open_page(export(model, zoo.images(1), tmp_path / "page.html"))
    explorer.press("r", "2")
    assert "no token that others look at" in explorer.text("#empty")
    explorer.set(view="to", layer=3, selection={"kind": "point", "y": 5, "x": 5})
    assert "choose what the head reads" in explorer.text("#empty")
    explorer.press("r")
    assert not explorer.page.locator("#empty").is_visible()
    assert explorer.row().sum() == pytest.approx(1, abs=1e-5)


def test_a_family_whose_norms_are_not_read(open_page: Any, tmp_path: Path) -> None:
    size = zoo.size_of("pvt_v2")
    model = visattn.load_model(zoo.build("pvt_v2"), image_size=size)
    unread = not [site for site in model.adapter.block_sites() if site is not None]
    explorer: Explorer = open_page(export(model, zoo.images(1, size), tmp_path / "page.html"))
    assert explorer.page.get_by_role("button", name="Token norms").is_disabled() == unread


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_text_and_nothing_else(
    open_page: Any, vit: visattn.Model, tmp_path: Path, name: str
) -> None:
    path = export(vit, picture(tmp_path / name), tmp_path / "page.html", layers=-1)
    explorer: Explorer = open_page(path)
    shown = name.encode("utf-8", "replace").decode("utf-8")
    assert explorer.text("h1") == shown
    assert explorer.page.locator("#photo").get_attribute("alt") == f"Photo {shown}"
    assert explorer.page.title() == f"{shown} \u2013 visattn explorer"
    assert explorer.locator_count("img") == 1
    explorer.press("ArrowDown")


def test_touch_on_a_phone(open_page: Any, made: Path) -> None:
    phone = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}
    explorer: Explorer = open_page(made, **phone)
    wide = explorer.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390
    explorer.page.touchscreen.tap(*explorer.at(190, 60, SIZE))
    explorer.settle()
    assert chosen(explorer) == "Patch in row 2, column 5"
    sizes = explorer.page.evaluate(
        """() => [...document.querySelectorAll("button, select")]
        .filter((each) => each.offsetParent)
        .map((each) => Math.min(each.offsetHeight, each.offsetWidth))"""
    )
    assert min(sizes) >= 32


def test_a_finger_drags_a_region(open_page: Any, made: Path) -> None:
    """Sideways a finger chooses a region; up and down it scrolls the page, which is taller."""
    phone = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}
    explorer: Explorer = open_page(made, **phone)
    session = explorer.page.context.new_cdp_session(explorer.page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        places = [{"x": x, "y": y, "id": place} for place, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    start, end = explorer.at(100, 30, SIZE), explorer.at(230, 85, SIZE)
    touch("touchStart", start)
    for share in (0.2, 0.4, 0.6, 0.8, 1.0):
        touch("touchMove", tuple(a + share * (b - a) for a, b in zip(start, end, strict=True)))
    touch("touchEnd")
    explorer.settle()
    assert chosen(explorer).startswith("Region of ")
    box = explorer.state("selection")["box"]
    assert box[0] < box[2]
    assert box[1] < box[3]
    before = explorer.state("selection")
    touch("touchStart", start)
    touch("touchMove", (start[0], start[1] - 40))
    touch("touchMove", (start[0], start[1] - 120))
    touch("touchEnd")
    explorer.settle()
    assert explorer.page.evaluate("scrollY") > 0
    assert explorer.state("selection") == before


def written(explorer: Explorer) -> str:
    """Return the fragment of the address once it says what is shown."""
    explorer.page.wait_for_function("() => location.hash === visattn.fragment()")
    found: str = explorer.page.evaluate("location.hash")
    return found


def test_a_link_leads_to_the_same_view(open_page: Any, made: Path) -> None:
    explorer: Explorer = open_page(made)
    ways = [
        {"view": "to", "layer": 2, "head": 1, "selection": {"kind": "point", "y": 40.5, "x": 9.25}},
        {"view": "from", "layer": 0, "selection": {"kind": "area", "box": [10, 20, 60, 90]}},
        {"view": "rollout", "until": 3, "selection": {"kind": "read"}},
        {"view": "to", "head": 0, "selection": {"kind": "prefix", "name": "class"}},
        {"view": "norms", "layer": 4, "colormap": "cividis"},
        {"view": "to", "layer": 5, "scale": "logarithm"},
    ]
    for way in ways:
        explorer.set(**way)
        address = written(explorer)
        again: Explorer = open_page(made, fragment=address)
        for name in ("view", "selection", "scale", "colormap"):
            assert again.state(name) == explorer.state(name), address
        assert again.text("#status") == explorer.text("#status")
        if way["view"] != "rollout":
            assert np.array_equal(again.row(), explorer.row())


def test_a_link_that_is_typed_into_an_open_page_is_followed(page: Explorer) -> None:
    page.page.evaluate("location.hash = '#view=from&layer=1&head=1&patch=8,8'")
    page.page.wait_for_function("() => visattn.state.view === 'from'")
    page.settle()
    assert (page.state("layer"), page.state("head")) == (1, 1)
    assert chosen(page) == "Patch in row 0, column 0"


@pytest.mark.parametrize(
    "word",
    [
        "view=constructor", "layer=99", "layer=-1", "head=7", "head=1e3", "patch=1", "patch=NaN,3",
        "patch=9999,3", "region=9,9,1,1", "token=<img src=x onerror=alert(1)>", "__proto__=x",
        "toString=x", "scale=none", "colours=jet", "%E0%A4%A",
    ],
)  # fmt: skip
def test_what_a_link_asks_in_vain_is_said(open_page: Any, made: Path, word: str) -> None:
    explorer: Explorer = open_page(made, fragment=f"#{word}&layer=1")
    assert explorer.text("#status").startswith("The link asks for what is not in this file: ")
    assert explorer.state("layer") == 1
    assert explorer.locator_count("img") == 1
    explorer.press("ArrowDown")
    assert "The link" not in explorer.text("#status")


def test_the_link_can_be_copied(open_page: Any, made: Path) -> None:
    explorer: Explorer = open_page(made)
    explorer.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    explorer.page.locator("#link").click()
    explorer.page.get_by_text("Link copied").wait_for()
    copied = explorer.page.evaluate("navigator.clipboard.readText()")
    assert copied == made.resolve().as_uri() + explorer.page.evaluate("visattn.fragment()")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(open_page: Any, made: Path, scheme: str) -> None:
    """WCAG 2 AA: a contrast of 4.5 for every text of the page."""
    explorer: Explorer = open_page(made, color_scheme=scheme)
    weak = explorer.page.evaluate(CONTRAST)
    assert weak == []


def test_everything_that_can_be_used_has_a_name(page: Explorer) -> None:
    nameless = page.page.evaluate(
        """() => [...document.querySelectorAll("button, select, input, img, [role=img]")]
        .filter((each) => !(each.textContent.trim() || each.getAttribute("aria-label") || each.alt
            || each.labels?.length || each.getAttribute("aria-labelledby")))
        .map((each) => each.outerHTML.slice(0, 80))"""
    )
    assert nameless == []


CONTRAST = """() => {
    const parts = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
        .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const ground = (node) => {
        for (let each = node; each; each = each.parentElement) {
            const found = parts(getComputedStyle(each).backgroundColor);
            if (found.length < 4 || found[3] > 0.8) return found;
        }
        return [255, 255, 255];
    };
    const weak = [];
    for (const node of document.querySelectorAll("body *")) {
        const own = [...node.childNodes].some((each) => each.nodeType === 3 && each.data.trim());
        if (!own || !node.offsetParent || node.disabled || node.tagName === "OPTION") continue;
        const one = light(parts(getComputedStyle(node).color)), other = light(ground(node));
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (ratio < 4.5) weak.push(`${node.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
    }
    return weak;
}"""
