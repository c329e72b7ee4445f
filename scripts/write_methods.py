"""Write the table of methods in docs/methods.md from what the methods declare."""

from __future__ import annotations

import sys
from pathlib import Path

from marked import replaced, table
from torch import nn

from visattn.adapters import OpaqueAdapter
from visattn.images import Size
from visattn.methods import get_method, list_methods

PAGE = Path(__file__).parent.parent / "docs" / "methods.md"
HEADINGS = ("method", "formula", "explains", "passes", "memory", "applies to", "paper")


def row(name: str) -> tuple[str, ...]:
    kind = get_method(name)
    return (
        f"`{name}`",
        f"`{kind.formula}`",
        "a target" if kind.class_specific else "the model",
        str(kind().passes(OpaqueAdapter(nn.Module()), Size(224, 224))),
        kind.memory,
        kind.applies,
        kind.paper or "control",
    )


def main() -> int:
    page = PAGE.read_text(encoding="utf-8")
    now = replaced(page, "table of methods", table(HEADINGS, [*map(row, list_methods())]))
    if "--check" in sys.argv:
        return int(now != page)
    PAGE.write_text(now, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
