from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from explorer_page import ARGUMENTS, Explorer


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium on this machine")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as started:
        opened = started.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield opened
        opened.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """Open pages; in the end none of them has said, asked or tried anything."""
    opened: list[Explorer] = []

    def run(path: Any, **context: Any) -> Explorer:
        opened.append(Explorer.open(browser, path, **context))
        return opened[-1]

    yield run
    for each in opened:
        assert each.seen == []
        each.page.close()
