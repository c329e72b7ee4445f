"""Selection: which maps of a stored gallery leave it."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote_to_bytes

from visattn.errors import ConfigError, suggestion
from visattn.gallery.manifest import OK, Entry, Key
from visattn.gallery.record import Record

COLUMNS = ("image", "model", "method")


def named(
    record: Record, entries: Sequence[Entry], models: Sequence[str], methods: Sequence[str]
) -> list[Entry]:
    """Return the entries of these models and methods; an empty sequence stands for all.

    Raises `ConfigError` for a name that the gallery does not have, and where none is left.
    """
    known = {
        "model": list(record["models"]),
        "method": list({name: 0 for each in record["models"].values() for name in each["methods"]}),
    }
    for kind, names in (("model", models), ("method", methods)):
        for name in names:
            if name not in known[kind]:
                near = suggestion(name, known[kind]) or f" It has {', '.join(known[kind])}."
                raise ConfigError(f"This gallery has no {kind} {name!r}.{near}")
    found = [
        entry
        for entry in entries
        if (not models or entry.model in models) and (not methods or entry.method in methods)
    ]
    if not found:
        raise ConfigError("This gallery has no map of these models and methods.")
    return found


def tabled(entries: Sequence[Entry], table: Path | None) -> list[Entry]:
    """Return the maps that a saved table names, in its order, or all maps without a table.

    The table is CSV with the columns image, model and method, as the page's "Save table" writes.
    Entries without a map are left out. Raises `ConfigError` for a table that cannot be read, lacks
    a column or names a map that is not in the gallery, and where no map is left.
    """
    known = {entry.key: entry for entry in entries}
    keys = list(known) if table is None else _keys(table, entries)
    for key in keys:
        if key not in known:
            image, model, method = key
            raise ConfigError(f"{table}: {method} of {model} for {image!r} is not in this gallery.")
    found = [known[key] for key in dict.fromkeys(keys) if known[key].status == OK]
    if not found:
        raise ConfigError("There is no map in this selection.")
    return found


def _keys(table: Path, entries: Sequence[Entry]) -> list[Key]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            read = csv.DictReader(file)
            rows, header = list(read), read.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"The table {table} cannot be read ({error}).") from error
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise ConfigError(
            f"The table {table} has no column {missing[0]!r}: it needs "
            f"{', '.join(COLUMNS)}, as the page's 'Save table' writes them."
        )
    # Names that are no UTF-8 do not survive a table; the escaped path of their map does.
    maps = {entry.map: entry.key for entry in entries if entry.map}
    escaped = [os.fsdecode(unquote_to_bytes(row.get("map") or "")) for row in rows]
    return [
        maps.get(path, (row["image"], row["model"], row["method"]))
        for row, path in zip(rows, escaped, strict=True)
    ]
