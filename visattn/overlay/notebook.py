"""A map in a notebook: its picture, and what a reader must know in words."""

from __future__ import annotations

import base64
import io
from dataclasses import replace
from html import escape

import numpy as np
from PIL import Image as PillowImage

from visattn.errors import ImageError
from visattn.images import Image, Size
from visattn.overlay.caption import explained, file_name, notes, title
from visattn.overlay.draw import draw
from visattn.overlay.placement import resized
from visattn.overlay.scale import Scale
from visattn.overlay.style import Style
from visattn.saliency import SaliencyMap

SIDE = 480
PAPER = 235


def png(saliency: SaliencyMap) -> bytes:
    """Return the map over its photo with colour bar and caption, as PNG.

    The longer side of the photo is at most `SIDE` pixels. Where the photo is gone or has changed,
    the map lies on grey, and the caption says why.
    """
    return _encoded(saliency, Style(colorbar=True, caption=True))


def html(saliency: SaliencyMap) -> str:
    """Return the map over its photo with its colour bar, and the caption as text, in HTML."""
    style = Style(colorbar=True)
    shown, photo = _at_hand(saliency)
    lines = [title(shown), explained(shown), *notes(shown, style, Scale.of(shown, style))]
    name, words = escape(file_name(shown, photo)), "<br>".join(map(escape, lines))
    data = base64.b64encode(_encoded(saliency, style)).decode()
    return (
        f'<figure style="margin:0"><img alt="{escape(repr(saliency))}" '
        f'src="data:image/png;base64,{data}"><figcaption><b>{name}</b><br>{words}</figcaption>'
        "</figure>"
    )


def _encoded(saliency: SaliencyMap, style: Style) -> bytes:
    shown, photo = _at_hand(saliency)
    buffer = io.BytesIO()
    draw(shown, photo, style).save(buffer, "PNG")
    return buffer.getvalue()


def _at_hand(saliency: SaliencyMap) -> tuple[SaliencyMap, Image]:
    """Return map and photo at display size; grey paper for a photo that cannot be had."""
    original = saliency.geometry.original
    shrink = min(1.0, SIDE / max(original))
    size = Size(*(max(1, round(side * shrink)) for side in original))
    small = replace(saliency, geometry=resized(saliency.geometry, size), photo=None)
    try:
        photo = saliency.photograph()
    except ImageError as error:
        note = f"without its photo: {error}"
        return replace(small, warnings=(*small.warnings, note)), Image(
            np.full((*size, 3), PAPER, np.uint8)
        )
    picture = photo.pillow().resize((size.width, size.height), PillowImage.Resampling.LANCZOS)
    return small, replace(photo, pixels=np.asarray(picture).copy())
