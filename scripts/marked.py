"""Parts of a document that are written by a script, between two comments, and their tables."""

from __future__ import annotations

from collections.abc import Sequence


def replaced(page: str, name: str, text: str) -> str:
    """Return the page with ``text`` between ``<!-- name -->`` and ``<!-- end of name -->``."""
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, found, rest = page.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"The page has no part {name!r}: {start!r} ... {end!r}")
    return f"{before}{start}{text}{end}{after}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, with a line at its end."""
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [f"| {' | '.join(c.replace('|', chr(92) + '|') for c in row)} |" for row in rows]
    return "\n".join(lines) + "\n"
