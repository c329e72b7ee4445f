"""Parts of a document that are written by a script, between two comments."""

from __future__ import annotations


def replaced(page: str, name: str, text: str) -> str:
    """Return the page with ``text`` between ``<!-- name -->`` and ``<!-- end of name -->``."""
    start, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, found, rest = page.partition(start)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise SystemExit(f"The page has no part {name!r}: {start!r} ... {end!r}")
    return f"{before}{start}{text}{end}{after}"
