"""Measure how fast the page of a large gallery opens and answers, in a real browser.

    python scripts/measure_page.py --photos 10000 --maps 2

The gallery is made up: entries with statistics, and one thumbnail for all photos. Chromium must be
installed. Prints milliseconds from navigation to the first cards, of one search, of opening the
statistics and of sorting.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from visattn.gallery.manifest import Entry
from visattn.gallery.page import write_page
from visattn.gallery.store import Store

ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
SIZE = (300, 200)
SEARCH = """const box = document.getElementById("query");
    box.value = "%s"; box.dispatchEvent(new Event("input"))"""
ACTS = {
    "search": SEARCH % "photograph-04",
    "search undone": SEARCH % "",
    "statistics": 'document.getElementById("statistics-button").click()',
    "sorting": """const sort = document.getElementById("sort");
        sort.value = "unusual-down"; sort.dispatchEvent(new Event("change"))""",
}
TIMED = """async () => {
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    const start = performance.now();
    %s;
    await frame();
    return performance.now() - start;
}"""


def entries(store: Store, photos: int, maps: int) -> Iterator[Entry]:
    random = np.random.default_rng(0)
    for number in range(photos):
        name = f"class-{number % 100:02}/photograph-{number:05}.jpg"
        for method in range(maps):
            statistics = {
                **dict(zip(("entropy", "gini", "top5_mass"), random.random(3), strict=True)),
                "prefix_mass": random.random(),
                "outlier_tokens": int(random.integers(5)),
                "minimum": 0.0,
                "maximum": 1.0,
                "scale": [0.0, 1.0],
                "seen": [0, 0, 1, 1],
                "normalization": "minmax",
                "colormap": "viridis",
                "no_signal": None,
                "prediction": f"class {number % 100}",
                "prediction_probability": 0.5,
            }
            key = (name, "model", f"method-{method}")
            yield Entry(
                *(name, None, key[1], key[2], "ok"),
                map=store.map(key),
                overlay=store.overlay(key),
                height=SIZE[1],
                width=SIZE[0],
                grid=(14, 14),
                statistics=statistics,
                probability=random.random(),
            )


def gallery(folder: Path, photos: int, maps: int) -> Path:
    store = Store(folder)
    record: dict[str, Any] = {
        "input": "photos",
        "started": "2026-01-01",
        "versions": {"visattn": "0"},
        "config": {"style": {}},
        "models": {"model": {"methods": {}}},
    }
    found = list(entries(store, photos, maps))
    for entry in found[: 200 * maps]:
        for name, kind in ((store.thumbnail(entry.image), "RGB"), (store.heat(entry.key), "RGBA")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            PillowImage.new(kind, SIZE, (90, 120, 60)).save(folder / name)
    write_page(store, found, record)
    return store.index


def measure(index: Path) -> dict[str, float]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1300, "height": 850})
        page.set_default_timeout(30_000)
        page.goto(index.resolve().as_uri())
        found = {"first cards": page.evaluate("performance.now()")}
        for name, act in ACTS.items():
            found[name] = page.evaluate(TIMED % act)
            page.keyboard.press("Escape")
        browser.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--maps", type=int, default=2, help="per photo")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = gallery(Path(folder), arguments.photos, arguments.maps)
        print(f"index.html: {index.stat().st_size / 2**20:.1f} MB")
        for name, value in measure(index).items():
            print(f"{name}: {value:.0f} ms")


if __name__ == "__main__":
    main()
