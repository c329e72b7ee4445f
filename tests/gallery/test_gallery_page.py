"""The page in a real browser, opened from disk."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gallery_fakes import FakeEngine, FakeModel, bug, photo, settings
from PIL import Image as PillowImage

from visattn.gallery import export_gallery, run_gallery
from visattn.gallery.page import embedded, url

HOSTILE = [
    '"><img src=x onerror=alert(1)>.png',
    "<script>alert(1)<b>.png",
    "<!--<script>.png",
    "'quoted' \"name\".png",
    "späß 写真 🐈.png",
    "a b#c%20d?e&amp;f.png",
    "back\\slash;semi:colon.png",
    "new\nline\ttab.png",
    "{{ 7 * 7 }}{% raw %}.png",
    os.fsdecode(b"latin-\xe9-1.png"),
]
METHODS = ["bright", "dark", "signed", "flat", "classes_only"]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, five methods, four photos: one broken, one with a bug in one method."""
    folder = tmp_path_factory.mktemp("page")
    photo(folder / "photos" / "ant.png", spot=(20, 40))
    photo(folder / "photos" / "deep" / "bee.png", 90, 60, spot=(50, 30))
    photo(folder / "photos" / "wide.png", 50, 150, spot=(20, 70))
    (folder / "photos" / "bad.png").write_bytes(b"bad")

    def crash(names: tuple[str, ...], methods: list[str]) -> None:
        if "wide.png" in names and "dark" in methods:
            bug()

    config = settings(
        folder / "photos", folder / "out", models=["fake", "headless"], methods=METHODS
    )
    run_gallery(config, progress=False, engine=FakeEngine(crash=crash))
    return folder / "out" / "index.html"


def opened(browser: Any, index: Path, **context: Any) -> Any:
    """Return a page whose every message, error and request is noted in ``page.seen``."""
    page = browser.new_page(**{"viewport": {"width": 1300, "height": 850}, **context})
    page.set_default_timeout(10_000)
    page.seen = []
    page.on("console", lambda message: page.seen.append(message.text))
    page.on("pageerror", lambda error: page.seen.append(str(error)))
    page.on("dialog", lambda dialog: (page.seen.append("dialog"), dialog.dismiss()))
    page.on("requestfailed", lambda request: page.seen.append(f"failed: {request.url}"))
    page.on(
        "request",
        lambda request: request.url.startswith("file:") or page.seen.append(request.url),
    )
    page.goto(index.resolve().as_uri())
    page.wait_for_load_state("load")
    return page


@pytest.fixture
def page(browser: Any, gallery: Path) -> Iterator[Any]:
    page = opened(browser, gallery)
    yield page
    assert page.seen == []
    page.close()


def names(page: Any) -> list[str]:
    return page.locator(".card h2").all_text_contents()


def tiles(page: Any, name: str) -> list[str]:
    card = page.locator(".card", has=page.get_by_role("heading", name=name, exact=True))
    return card.locator(".tile .words b").all_text_contents()


def at_cursor(page: Any) -> tuple[str, str]:
    return tuple(
        page.evaluate(
            """() => {
            const tile = document.activeElement;
            const name = tile.closest(".card").querySelector("h2").textContent;
            return [name, tile.querySelector("b").textContent];
        }"""
        )
    )


def loaded(page: Any) -> bool:
    """Scroll through the page, and return whether every picture could be shown."""
    return page.evaluate(
        """async () => {
        const pictures = [...document.querySelectorAll("img")];
        for (const each of pictures) each.loading = "eager";
        await Promise.all(pictures.map((each) => each.decode().catch(() => null)));
        return pictures.length > 0 && pictures.every((each) => each.naturalWidth > 0);
    }"""
    )


def test_photos_stand_beside_their_maps(page: Any) -> None:
    assert names(page) == ["ant.png", "bad.png", "deep/bee.png", "wide.png"]
    assert tiles(page, "ant.png") == METHODS * 2
    words = page.locator(".card").first.locator("figure .words > *")
    assert words.all_text_contents() == ["photo", "90 \u00d7 60"]
    assert loaded(page)
    assert page.locator("#counts button").all_inner_texts() == [
        "25 ok",
        "12 failed",
        "3 do not apply",
    ]


def test_the_heat_lies_exactly_on_the_photo(page: Any) -> None:
    boxes = page.evaluate(
        """() => [...document.querySelectorAll(".stack:has(.heat)")].map((stack) =>
        [...stack.querySelectorAll("img")].map((each) => {
            const box = each.getBoundingClientRect();
            return [box.x, box.y, box.width, box.height].join();
        }))"""
    )
    assert len(boxes) == 19  # 25 maps, 6 of them without a signal
    assert all(len(set(box)) == 1 for box in boxes)
    width, height = map(float, boxes[0][0].split(",")[2:])
    assert width / height == pytest.approx(1.5, abs=0.01)


def test_the_slider_fades_the_heat_and_nothing_else(page: Any) -> None:
    heat = page.locator(".tile .heat").first

    def opacity() -> float:
        return float(heat.evaluate("each => getComputedStyle(each).opacity"))

    start = opacity()
    page.locator("#opacity").fill("20")
    assert opacity() == pytest.approx(0.2) != start
    assert page.locator("#opacity-value").inner_text() == "20 %"
    photo = page.locator(".tile .stack img").first
    assert photo.evaluate("each => getComputedStyle(each).opacity") == "1"
    page.locator(".tile").first.click()
    page.locator("#box-opacity").fill("90")
    assert opacity() == pytest.approx(0.9)
    page.locator("#box-name").click()
    page.keyboard.press("h")
    assert opacity() == 0


def test_search_finds_names_classes_and_errors(page: Any) -> None:
    page.fill("#query", "BEE")
    assert names(page) == ["deep/bee.png"]
    page.fill("#query", "zerodivision")
    assert names(page) == ["wide.png"]
    assert tiles(page, "wide.png") == ["dark", "dark"]
    page.fill("#query", "no such thing")
    assert names(page) == []
    assert page.locator("#empty").is_visible()
    page.get_by_role("button", name="Show everything").click()
    assert len(names(page)) == 4
    assert page.locator("#query").input_value() == ""


def test_each_filter(page: Any) -> None:
    page.select_option("#method", "signed")
    assert tiles(page, "ant.png") == ["signed", "signed"]
    page.select_option("#model", "headless")
    assert tiles(page, "ant.png") == ["signed"]
    page.select_option("#method", "")
    page.select_option("#status", "unsupported")
    assert names(page) == ["ant.png", "deep/bee.png", "wide.png"]
    assert tiles(page, "ant.png") == ["classes_only"]
    page.locator("#tools").evaluate("form => form.reset()")
    labels = page.locator("#class option").all_inner_texts()
    assert labels[0] == "All classes"
    shown = []
    for label in labels[1:]:
        page.select_option("#class", label)
        predictions = page.locator(".card .prediction").all_text_contents()
        assert all(f"Prediction: {label} " in text for text in predictions)
        shown += names(page)
    assert sorted(shown) == ["ant.png", "deep/bee.png", "wide.png"]


def test_status_counts_filter(page: Any) -> None:
    button = page.get_by_role("button", name="12 failed")
    button.click()
    assert names(page) == ["bad.png", "wide.png"]
    assert button.get_attribute("aria-pressed") == "true"
    assert page.locator("#found").inner_text() == "2 photos, 12 maps of 40"
    button.click()
    assert len(names(page)) == 4


def test_sorting_puts_maps_without_a_value_last(page: Any) -> None:
    page.select_option("#method", "bright")
    entropy = page.evaluate(
        """() => Object.fromEntries(JSON.parse(document.getElementById("data").textContent)
        .photos.map(({ name, maps }) => [name, (maps[0].statistics || {}).entropy ?? null]))"""
    )
    known = sorted((name for name in entropy if entropy[name] is not None), key=entropy.get)
    page.select_option("#sort", "entropy-up")
    assert names(page) == [*known, "bad.png"]
    page.select_option("#sort", "entropy-down")
    assert names(page) == [*known[::-1], "bad.png"]
    page.select_option("#method", "signed")
    for order in ("probability-up", "probability-down"):
        page.select_option("#sort", order)
        texts = page.locator(".tile .note").all_text_contents()
        found = [float(text.split()[-1]) for text in texts]
        assert found == sorted(found, reverse=order == "probability-down")
        assert names(page)[-1] == "bad.png"


def test_keys_move_between_photos_and_maps(page: Any) -> None:
    page.keyboard.press("j")
    assert at_cursor(page) == ("ant.png", "bright")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert at_cursor(page) == ("ant.png", "signed")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    assert at_cursor(page)[0] == "deep/bee.png"
    page.keyboard.press("k")
    page.keyboard.press("ArrowUp")
    page.keyboard.press("4")
    assert at_cursor(page) == ("ant.png", "flat")
    page.keyboard.press("ArrowLeft")
    assert at_cursor(page) == ("ant.png", "signed")
    page.keyboard.press("/")
    page.keyboard.type("bee1")
    assert page.locator("#query").input_value() == "bee1"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement === document.body")


def test_help_opens_and_closes(page: Any) -> None:
    page.keyboard.press("?")
    assert page.locator("#help").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("#help").is_visible()


def test_the_lightbox_by_keyboard(page: Any) -> None:
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    assert page.locator("#box-name").inner_text() == "ant.png"
    assert page.locator("#box-place").inner_text() == "1 of 4"
    assert loaded(page)
    page.keyboard.press("3")
    pressed = page.locator("#tabs [aria-pressed=true]")
    assert pressed.inner_text().split() == ["3", "signed"]
    about = page.locator("#about").inner_text()
    for words in ("Probability", "Entropy", "Gini", "Top 5 % of cells", "8 rows \u00d7 8 columns"):
        assert words in about
    page.keyboard.press("ArrowRight")
    assert "No signal: all cells are zero" in page.locator("#about").inner_text()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("j")
    assert page.locator("#stage").inner_text() == "Failed"
    assert "not an image" in page.locator("#about").inner_text()
    page.keyboard.press("ArrowDown")
    assert page.locator("#box-name").inner_text() == "deep/bee.png"
    page.keyboard.press("Escape")
    assert not page.locator("#box").is_visible()
    assert at_cursor(page)[0] == "deep/bee.png"


def test_the_scale_of_a_map_is_in_its_legend(page: Any) -> None:
    page.locator(".tile", has_text="signed").first.click()
    low, middle, high = page.locator(".legend .ends span").all_inner_texts()
    assert middle == "0"
    assert float(low) == -float(high)
    page.keyboard.press("1")
    low, high = page.locator(".legend .ends span").all_inner_texts()
    assert float(low) < float(high)


def test_links_lead_to_the_files(page: Any, gallery: Path) -> None:
    page.locator(".tile").first.click()
    for link in page.locator("#about a").all():
        assert (gallery.parent / link.get_attribute("href")).is_file()


def test_a_failed_card_shows_its_error_once(page: Any) -> None:
    card = page.locator(".card").nth(1)
    text = card.text_content()
    assert text.count("not an image in a format that Pillow reads") == 1
    assert "10 maps failed" in text
    card.locator(".tile").click()
    assert "not an image" in page.locator("#about .error").inner_text()


def test_every_control_has_a_name_and_every_picture_an_alternative(page: Any) -> None:
    page.locator(".tile").first.click()
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, a")].filter((each) =>
        !(each.getAttribute("aria-label") || each.textContent.trim() || each.closest("label")))
        .map((each) => each.outerHTML)"""
    )
    assert nameless == []
    assert page.locator("img:not([alt])").count() == 0


@pytest.mark.parametrize("width", [360, 760, 1000, 1300])
def test_nothing_sticks_out_at_any_width(browser: Any, gallery: Path, width: int) -> None:
    page = opened(browser, gallery, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator(".tile").first.click()
    assert page.locator("#box").evaluate("each => each.scrollWidth") <= width
    assert page.seen == []
    page.close()


def test_dark_mode_is_dark(browser: Any, gallery: Path) -> None:
    def ground(scheme: str) -> list[int]:
        page = opened(browser, gallery, color_scheme=scheme)
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        page.close()
        return [int(part) for part in colour.removeprefix("rgb(").rstrip(")").split(",")]

    assert max(ground("dark")) < 60
    assert min(ground("light")) > 200


def test_hostile_names_are_text_and_their_pictures_are_found(browser: Any, tmp_path: Path) -> None:
    photo(tmp_path / "plain.png")
    for name in HOSTILE:
        (tmp_path / "photos" / "<i>dir #1" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tmp_path / "plain.png", tmp_path / "photos" / "<i>dir #1" / name)
    config = settings(tmp_path / "photos", tmp_path / "out", methods=["signed"], target=2)
    assert run_gallery(config, progress=False, engine=FakeEngine()).ok == len(HOSTILE)
    page = opened(browser, tmp_path / "out" / "index.html")
    wanted = sorted(f"<i>dir #1/{name}" for name in HOSTILE)
    assert sorted(page.locator(".card h2").all_text_contents()) == wanted
    assert page.locator("i, .card script, [onerror]").count() == 0
    assert "</script><b>bold</b>" in page.locator(".note").first.text_content()
    assert loaded(page)
    for index in range(len(HOSTILE)):
        page.locator(".tile").nth(index).click()
        assert loaded(page)
        page.keyboard.press("Escape")
    assert page.seen == []
    page.close()


def test_many_photos_are_drawn_as_they_are_needed(browser: Any, tmp_path: Path) -> None:
    photo(tmp_path / "plain.png", 30, 30, spot=(15, 15))
    (tmp_path / "photos").mkdir()
    for number in range(60):
        shutil.copy(tmp_path / "plain.png", tmp_path / "photos" / f"{number:02}.png")
    config = settings(tmp_path / "photos", tmp_path / "out", methods=["bright"])
    run_gallery(config, progress=False, engine=FakeEngine())
    page = opened(browser, tmp_path / "out" / "index.html", viewport={"width": 800, "height": 400})
    assert page.locator(".card").count() < 60
    page.keyboard.press("j")
    for _ in range(59):
        page.keyboard.press("j")
    assert at_cursor(page)[0] == "59.png"
    assert page.locator(".card").count() == 60
    assert page.seen == []
    page.close()


def halves(page: Any) -> tuple[Any, Any]:
    """Return the left and the right half of the large picture, without the line and the names."""
    page.add_style_tag(content=".line, .side { display: none }")
    picture = page.locator(".stage > .stack").screenshot()
    pixels = np.asarray(PillowImage.open(io.BytesIO(picture)).convert("RGB")).astype(int)
    width = pixels.shape[1]
    return pixels[:, : width // 2 - 4], pixels[:, width // 2 + 4 :]


def test_two_maps_are_compared_under_a_line(browser: Any, gallery: Path) -> None:
    page = opened(browser, gallery, bypass_csp=True)
    page.locator(".tile").first.click()
    assert page.locator("#compare-tools").is_hidden()
    alone = halves(page)
    page.keyboard.press("2")
    other = halves(page)
    assert np.abs(alone[1] - other[1]).mean() > 5
    page.keyboard.press("1")
    page.locator("#other").select_option("dark of fake")
    assert page.locator(".side").all_inner_texts() == ["bright", "dark"]
    assert page.locator(".legend").count() == 2
    assert "dark of fake" in page.locator("#other-legend").inner_text()
    both = halves(page)
    assert np.abs(both[0] - alone[0]).mean() < 0.5
    assert np.abs(both[1] - other[1]).mean() < 0.5
    box = page.locator(".stage > .stack").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 20)
    page.mouse.up()
    assert abs(int(page.locator("#wipe").input_value()) - 20) <= 1
    page.locator("#box-name").click()
    page.keyboard.press("b")
    assert page.locator("#wipe").input_value() == "100"
    assert np.abs(halves(page)[1] - alone[1]).mean() < 0.5
    page.keyboard.press("b")
    assert np.abs(halves(page)[0] - other[0]).mean() < 0.5
    page.keyboard.press("j")
    page.keyboard.press("j")
    assert page.locator("#box-name").inner_text() == "deep/bee.png"
    assert page.locator("#other").input_value() == "dark of fake"
    assert page.seen == []
    page.close()


def test_a_map_without_signal_is_compared_without_colours(browser: Any, tmp_path: Path) -> None:
    photo(tmp_path / "in" / "ant.png")
    config = settings(tmp_path / "in", tmp_path / "out", methods=["bright", "flat"])
    run_gallery(config, progress=False, engine=FakeEngine())
    page = opened(browser, tmp_path / "out" / "index.html")
    page.locator(".tile").first.click()
    page.locator("#other").select_option("flat of fake")
    assert "flat of fake has no signal: " in page.locator("#other-legend").inner_text()
    assert page.locator("#other-legend .legend").count() == 0
    assert page.seen == []
    page.close()


def test_blinking_shows_one_and_then_the_other(page: Any) -> None:
    from playwright.sync_api import expect

    page.locator(".tile").first.click()
    page.locator("#other").select_option("dark of fake")
    page.locator("#blink").click()
    expect(page.locator("#wipe")).to_have_value("0")
    expect(page.locator("#wipe")).to_have_value("100")
    page.locator("#blink").click()
    assert page.locator("#blink").get_attribute("aria-pressed") == "false"
    page.locator("#other").select_option("")
    assert page.locator(".above").count() == 0


def test_statistics_of_what_is_shown(page: Any) -> None:
    page.locator("#method").select_option("bright")
    page.locator("#statistics-button").click()
    body = page.locator("#statistics-body")
    assert body.locator("section h3").nth(1).inner_text().startswith("bright of fake")
    assert body.locator("section h3").first.inner_text() == "Most unusual first"
    entropy = body.locator(".bars").first
    assert entropy.get_attribute("aria-label").startswith("Entropy: from ")
    assert entropy.get_attribute("aria-label").endswith("3 maps")
    counts = entropy.locator("span").evaluate_all("bars => bars.map((bar) => bar.title)")
    assert sum(int(text.split()[0]) for text in counts) == 3
    assert "five or more" in body.inner_text()
    page.keyboard.press("Escape")
    assert page.locator("#statistics").is_hidden()


def test_the_strangest_map_comes_first(browser: Any, tmp_path: Path) -> None:
    for number in range(9):
        photo(tmp_path / "in" / f"{number}.png", 60, 90, spot=(30, 30 + 3 * number))
    noisy = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)
    PillowImage.fromarray(noisy).save(tmp_path / "in" / "5.png")
    config = settings(tmp_path / "in", tmp_path / "out", methods=["bright"])
    run_gallery(config, progress=False, engine=FakeEngine())
    page = opened(browser, tmp_path / "out" / "index.html")
    page.locator("#sort").select_option("unusual-down")
    assert names(page)[0] == "5.png"
    page.keyboard.press("Escape")
    page.locator("#statistics-button").click()
    first = page.locator(".odd li").first
    assert first.inner_text().startswith("5.png")
    first.locator("button").click()
    assert page.locator("#box-name").inner_text() == "5.png"
    assert page.seen == []
    page.close()


def test_unusual_maps_count_wherever_they_stand(browser: Any, tmp_path: Path) -> None:
    """In a photo's second map, and in a measure in which all others are equal."""
    for number in range(8):
        photo(tmp_path / "in" / f"{number}.png", 60, 90, spot=(30, 30))

    def answer(each: Any, method: Any) -> Any:
        name = each.image.path.name
        made = FakeEngine()._map(FakeModel("fake"), each, method, None)
        found = {"outlier_tokens": 9 if (name, method.name) == ("6.png", "dark") else 0}
        return replace(made, statistics={**made.statistics, **found})

    config = settings(tmp_path / "in", tmp_path / "out", methods=["bright", "dark"])
    run_gallery(config, progress=False, engine=FakeEngine(answer=answer))
    page = opened(browser, tmp_path / "out" / "index.html")
    page.locator("#sort").select_option("unusual-down")
    assert names(page)[0] == "6.png"
    page.locator("#statistics-button").click()
    assert page.locator(".odd li").first.inner_text().startswith("6.png")
    assert page.locator(".odd li").count() == 1
    page.close()


def test_the_selection_is_saved_as_a_table(browser: Any, tmp_path: Path) -> None:
    hostile = ['a,"b".png', "=1+1.png", "line\nbreak.png", "a%20b.png"]
    unreadable = os.fsdecode(b"latin-\xe9.png")
    for name in (*hostile, unreadable):
        photo(tmp_path / "in" / name)
    config = settings(tmp_path / "in", tmp_path / "out", methods=["bright", "signed"])
    run_gallery(config, progress=False, engine=FakeEngine())
    page = opened(browser, tmp_path / "out" / "index.html")
    page.locator("#method").select_option("signed")
    with page.expect_download() as started:
        page.locator("#table-button").click()
    assert started.value.suggested_filename == "selection.csv"
    text = Path(started.value.path()).read_bytes().decode("utf-8")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    (odd,) = [row for row in rows if row["image"] not in hostile]
    assert odd["map"] == "maps/latin-%E9.png/fake.signed.npz"
    saved = tmp_path / "selection.csv"
    saved.write_bytes(text.encode())
    both = export_gallery(tmp_path / "out", table=saved, coco=tmp_path / "masks.json")
    assert (both.maps, both.masks) == (5, 5)
    rows.remove(odd)
    assert {row["image"] for row in rows} == set(hostile)
    manifest = map(json.loads, (tmp_path / "out" / "manifest.jsonl").read_text().splitlines())
    lines = {line["image"]: line for line in manifest if line["method"] == "signed"}
    for row in rows:
        line = lines[row["image"]]
        assert row["method"] == "signed"
        assert float(row["probability"]) == line["probability"]
        assert float(row["entropy"]) == line["statistics"]["entropy"]
        assert row["outlier_tokens"] == ""
        assert row["map"] == line["map"]
    assert page.seen == []
    page.close()


def test_embedded_json_cannot_leave_its_element() -> None:
    text = embedded({"a": "</script><!--<script>\u2028\udc80"})
    assert "<" not in text
    assert text.isascii()


def test_urls_keep_every_byte() -> None:
    assert url("maps/a b#?%\"'<é.npz") == "maps/a%20b%23%3F%25%22%27%3C%C3%A9.npz"
    assert url(os.fsdecode(b"\xff.png")) == "%FF.png"
