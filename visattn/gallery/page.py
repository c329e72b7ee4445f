"""The page: one HTML file that opens from disk, with its style, its script and its data inside."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Sequence
from importlib import resources
from typing import Any
from urllib.parse import quote

from jinja2 import Environment
from markupsafe import Markup

from visattn.atomic import write_text
from visattn.gallery.manifest import OK, STATUSES, Entry
from visattn.gallery.record import Record
from visattn.gallery.store import Store

STOPS = 17
SCRIPTS = (
    *("elements", "filter", "cards", "lightbox", "compare", "statistics", "export"),
    *("opacity", "keyboard", "start"),
)


def write_page(store: Store, entries: Sequence[Entry], record: Record) -> None:
    """Write index.html from the entries; photos in the order of their names."""
    data = page_data(store, entries, record)
    style, script = _asset("page.css"), _script()
    template = Environment(autoescape=True).from_string(_asset("page.html"))
    text = template.render(
        title=data["title"],
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        style_hash=_hash(style),
        script_hash=_hash(script),
        data=Markup(embedded(data)),  # noqa: S704 - no '<' is left in it
    )
    write_text(store.index, text)


def page_data(store: Store, entries: Sequence[Entry], record: Record) -> dict[str, Any]:
    """Return what the page shows, for JSON."""
    photos: dict[str, list[Entry]] = {}
    for entry in sorted(entries, key=_order(record)):
        photos.setdefault(entry.image, []).append(entry)
    colormaps = {entry.statistics.get("colormap") for entry in entries if entry.status == OK}
    return {
        "title": _readable(os.path.basename(record["input"]) or record["input"]),  # noqa: PTH119
        "made": record["started"][:10],
        "version": record["versions"]["visattn"],
        "opacity": record["config"]["style"].get("opacity", _default_opacity()),
        "counts": {name: sum(each.status == name for each in entries) for name in STATUSES},
        "colormaps": {name: _stops(name) for name in sorted(filter(None, colormaps))},
        "attending": [name for name in record["models"] if _attends(record, name)],
        "photos": [_photo(store, name, group) for name, group in photos.items()],
    }


def embedded(data: Any) -> str:
    """Return JSON that can stand inside a script element: ASCII, and without ``<``."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def url(path: str) -> str:
    """Return a relative path as a URL, byte for byte what the file system has."""
    return quote(os.fsencode(path))


def _order(record: Record) -> Any:
    models = list(record["models"])
    methods = {name: list(each["methods"]) for name, each in record["models"].items()}

    def key(entry: Entry) -> tuple[str, int, int]:
        known = entry.model in methods and entry.method in methods[entry.model]
        if not known:
            return entry.image, len(models), 0
        return (
            entry.image,
            models.index(entry.model),
            methods[entry.model].index(entry.method),
        )

    return key


def _attends(record: Record, model: str) -> bool:
    """Return whether a model may have layers and heads of attention to be laid out on a sheet."""
    family = record["models"][model].get("facts", {}).get("family")
    return family not in (None, "convnet")


def _photo(store: Store, name: str, group: Sequence[Entry]) -> dict[str, Any]:
    sized = next((entry for entry in group if entry.height), None)
    return {
        "name": name,
        "height": sized.height if sized else None,
        "width": sized.width if sized else None,
        "photo": url(store.photo(name)) if sized else None,
        "thumbnail": url(store.thumbnail(name)) if sized else None,
        "clip": any(entry.frames for entry in group),
        "maps": [_map(store, entry) for entry in group],
    }


def _map(store: Store, entry: Entry) -> dict[str, Any]:
    shown = {
        "model": entry.model,
        "method": entry.method,
        "status": entry.status,
        "error": entry.error,
        "index": entry.target_index,
        "label": entry.target_label,
        "probability": entry.probability,
        "grid": entry.grid,
        "warnings": entry.warnings,
        "map": url(entry.map) if entry.map else None,
        "overlay": url(entry.overlay) if entry.overlay else None,
        "heat": url(store.heat(entry.key)) if entry.status == OK and not entry.frames else None,
        "frames": entry.frames,
        "fps": entry.fps,
        "preview": url(entry.preview) if entry.preview else None,
        "tile": url(store.tile(entry.key)) if entry.preview else None,
        "statistics": entry.statistics if entry.status == OK else None,
    }
    return {name: value for name, value in shown.items() if value is not None}


def _stops(name: str) -> list[str]:
    from visattn.overlay.colormap import table

    colours = table(name)
    picked = [colours[round(i * (len(colours) - 1) / (STOPS - 1))] for i in range(STOPS)]
    return ["#{:02x}{:02x}{:02x}".format(*(round(part) for part in colour)) for colour in picked]


def _default_opacity() -> float:
    from visattn.overlay import Style

    return Style.opacity


def _readable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _script() -> str:
    """Return the files of the script as one, whose names stay inside it."""
    parts = "\n".join(_asset(f"page_{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}}})();\n'


def _asset(name: str) -> str:
    return resources.files("visattn.gallery").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
