"""Measure the files that `visattn explore` writes, and how fast they answer in a real browser.

    python scripts/measure_explorer.py

Prints, for ViT-S/16 at 224 (random weights) and DINOv2-small at 448 pixels, the size of the file
and how long the page computes for a patch: where it looks in all layers, from where it is looked at
(the first time, and for a second patch), and its rollout. Chromium must be installed.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import visattn
from visattn.explorer import export

ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
PHOTO = Path("data/photos/cat.jpg")
MODELS: dict[str, dict[str, Any]] = {
    "vit_small_patch16_224": {"weights": None, "image_size": 224},
    "packaged:dinov2_small": {"image_size": 448},
}
FIRST, SECOND = {"kind": "point", "x": 180, "y": 120}, {"kind": "point", "x": 260, "y": 200}
QUESTIONS: dict[str, dict[str, Any]] = {
    "looks at, all layers": {"view": "to", "selection": FIRST},
    "looked at from, first": {"view": "from", "selection": FIRST},
    "looked at from, again": {"view": "from", "selection": SECOND},
    "rollout": {"view": "rollout", "until": 0, "selection": FIRST},
}
ASK = """async (changes) => {
    visattn.set(changes);
    await visattn.settled();
    return visattn.seconds();
}"""


def answers(page: Any) -> Iterator[tuple[str, float]]:
    page.evaluate("visattn.started.then(() => visattn.settled())")
    for name, changes in QUESTIONS.items():
        yield name, page.evaluate(ASK, changes)


def main() -> None:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=path, args=ARGUMENTS)
        for name, options in MODELS.items():
            model = visattn.load_model(name, **options)
            made = export(model, PHOTO, Path(folder) / f"{model.adapter.family}.html")
            print(f"{name} at {options['image_size']}: {made.stat().st_size / 1e6:.1f} MB")
            page = browser.new_page()
            page.goto(made.as_uri())
            for question, seconds in answers(page):
                print(f"  {question}: {1000 * seconds:.0f} ms")
        browser.close()


if __name__ == "__main__":
    main()
