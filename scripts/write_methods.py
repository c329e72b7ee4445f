"""Write the table of methods in docs/methods.md from what the methods declare."""

from __future__ import annotations

import sys
from pathlib import Path

from marked import replaced
from torch import nn

from visattn.adapters import OpaqueAdapter
from visattn.images import Size
from visattn.methods import get_method, list_methods

PAGE = Path(__file__).parent.parent / "docs" / "methods.md"
HEADINGS = ("method", "formula", "explains", "passes", "memory", "applies to", "paper")


def row(name: str) -> str:
    kind = get_method(name)
    cells = (
        f"`{name}`",
        f"`{kind.formula}`",
        "a target" if kind.class_specific else "the model",
        str(kind().passes(OpaqueAdapter(nn.Module()), Size(224, 224))),
        kind.memory,
        kind.applies,
        kind.paper or "control",
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def table() -> str:
    lines = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    return "\n".join([*lines, *map(row, list_methods())]) + "\n"


def main() -> int:
    page = PAGE.read_text(encoding="utf-8")
    now = replaced(page, "table of methods", table())
    if "--check" in sys.argv:
        return int(now != page)
    PAGE.write_text(now, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
