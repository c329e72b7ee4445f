from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from explorer_page import Explorer


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
