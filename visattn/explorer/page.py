"""The page: one HTML file with its style, its scripts, the photo and all numbers inside."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment
from markupsafe import Markup
from PIL import Image as PillowImage

from visattn.images import Image

SCRIPTS = (
    "arrays.js", "attention.js", "walk.js", "place.js", "state.js", "words.js", "paint.js",
    "panel.js", "readout.js", "input.js", "link.js", "main.js",
)  # fmt: skip
LONGEST = 1280
QUALITY = 88


def page(data: dict[str, Any], texts: Sequence[str], photo: Image) -> str:
    """Return the HTML for what `visattn.explorer.export` found, the texts of its arrays inside."""
    style = _asset("explorer.css")
    script = "\n".join(['"use strict";', "(() => {", *map(_asset, SCRIPTS), "})();"])
    template = Environment(autoescape=True).from_string(_asset("explorer.html"))
    return template.render(
        title=data["name"],
        style=Markup(style),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own files
        style_hash=_hash(style),
        script_hash=_hash(script),
        photo=photo_url(photo),
        arrays=texts,
        data=Markup(_json(data)),  # noqa: S704 - no '<' is left in it
    )


def photo_url(photo: Image) -> str:
    """Return the photo as a data URL, at most `LONGEST` pixels on its longer side, as JPEG."""
    picture = photo.pillow()
    share = LONGEST / max(picture.size)
    if share < 1:
        small = [max(1, round(side * share)) for side in picture.size]
        picture = picture.resize((small[0], small[1]), PillowImage.Resampling.LANCZOS)
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode('ascii')}"


def _json(data: Any) -> str:
    """Return JSON that can stand inside a script element: ASCII, and without ``<``."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _asset(name: str) -> str:
    return resources.files("visattn.explorer").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"
