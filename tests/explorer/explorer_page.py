"""An explorer in a real browser, read back through ``window.visattn``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(eq=False)
class Explorer:
    """A page with everything it said: console, errors, dialogs, requests that leave the file."""

    page: Any
    seen: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, browser: Any, path: Path, fragment: str = "", **context: Any) -> Explorer:
        page = browser.new_page(**{"viewport": {"width": 1300, "height": 900}, **context})
        page.set_default_timeout(30_000)
        made = cls(page)
        own = path.resolve().as_uri()
        page.on("console", lambda message: made.seen.append(message.text))
        page.on("pageerror", lambda error: made.seen.append(str(error)))
        page.on("dialog", lambda dialog: (made.seen.append("dialog"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: (
                request.url.partition("#")[0] == own
                or request.url.startswith("data:")
                or made.seen.append(request.url)
            ),
        )
        page.goto(own + fragment)
        made.settle()
        return made

    def settle(self) -> None:
        """Wait until every layer is answered and the page is painted."""
        self.page.evaluate("visattn.started.then(() => visattn.settled())")
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => setTimeout(done)))")

    def set(self, **changes: Any) -> None:
        self.page.evaluate("(changes) => visattn.set(changes)", changes)
        self.settle()

    def state(self, name: str) -> Any:
        return self.page.evaluate(f"visattn.state.{name}")

    def row(self) -> np.ndarray:
        """The shown row over the tokens of its layout."""
        return np.array(self.page.evaluate("visattn.row()"))

    def heads(self) -> np.ndarray:
        """All heads (head, token) of the shown layer."""
        return np.array(self.page.evaluate("visattn.heads()"))

    def window(self) -> np.ndarray:
        return np.array(self.page.evaluate("visattn.window()"))

    def answer(self, name: str) -> Any:
        return self.page.evaluate(f"visattn.answer().{name}")

    def box(self) -> tuple[float, float, float, float]:
        """Left, top, width and height of the photo on the screen."""
        self.page.locator("#stage").scroll_into_view_if_needed()
        found = self.page.locator("#photo").bounding_box()
        return found["x"], found["y"], found["width"], found["height"]

    def at(self, x: float, y: float, photo: tuple[int, int]) -> tuple[float, float]:
        """Return where a photo's pixel (x, y) stands on the screen; ``photo`` (height, width)."""
        left, top, width, height = self.box()
        return left + x / photo[1] * width, top + y / photo[0] * height

    def click(self, x: float, y: float, photo: tuple[int, int]) -> None:
        self.page.mouse.click(*self.at(x, y, photo))
        self.settle()

    def drag(
        self, start: tuple[float, float], end: tuple[float, float], photo: tuple[int, int]
    ) -> None:
        self.page.mouse.move(*self.at(*start, photo))
        self.page.mouse.down()
        self.page.mouse.move(*self.at(*end, photo), steps=4)
        self.page.mouse.up()
        self.settle()

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def text(self, place: str) -> str:
        found: str = self.page.locator(place).inner_text()
        return found

    def locator_count(self, place: str) -> int:
        count: int = self.page.locator(place).count()
        return count
