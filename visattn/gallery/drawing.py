"""Drawing: the files of one map, and the display copies of one photo."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image as PillowImage

from visattn.atomic import atomic_path
from visattn.gallery.manifest import OK, Entry, Key, no_statistics
from visattn.gallery.store import Store
from visattn.images import Image, Size

if TYPE_CHECKING:
    from visattn.overlay import Style
    from visattn.saliency import SaliencyMap

PHOTO_SIDE, THUMBNAIL_SIDE, HEAT_SIDE = 1280, 480, 640


def gallery_style(options: Mapping[str, Any]) -> Style:
    """Return the style of a gallery: captioned, with a colour bar, unless ``options`` say other."""
    from visattn.overlay import Style

    return Style.create(**{"caption": True, "colorbar": True, **options})


def fit(size: Size, side: int) -> Size:
    """Return ``size`` reduced to at most ``side`` pixels on its longer side."""
    scale = min(1.0, side / max(size))
    return Size(*(max(1, round(each * scale)) for each in size))


def draw_photo(store: Store, name: str, photo: Image) -> None:
    """Write the display copy and the thumbnail of a photo."""
    picture = photo.pillow()
    for path, side in ((store.photo(name), PHOTO_SIDE), (store.thumbnail(name), THUMBNAIL_SIDE)):
        picture = to_size(picture, fit(photo.size, side))
        with atomic_path(store.root / path) as temporary:
            picture.save(temporary, quality=88, optimize=True, progressive=True)


def draw_map(
    store: Store, key: Key, saliency: SaliencyMap, photo: Image, style: Style, side: int
) -> Entry:
    """Write map, overlay and heat layer, and return their manifest entry (``seconds`` left 0)."""
    saliency.save(store.root / store.map(key))
    shown = reduced(photo, fit(photo.size, side))
    draw_pictures(store, key, at_size(saliency, shown.size), shown, style)
    target = saliency.target
    return Entry(
        *(key[0], photo.sha256, key[1], key[2], OK),
        map=store.map(key),
        overlay=store.overlay(key),
        height=photo.size.height,
        width=photo.size.width,
        grid=(saliency.grid.shape[0], saliency.grid.shape[1]),
        target_index=target.index if target else None,
        target_label=target.label if target else None,
        probability=finite(target.probability) if target else None,
        statistics=statistics_of(saliency, style),
        warnings=_warnings(saliency),
    )


def draw_pictures(
    store: Store, key: Key, saliency: SaliencyMap, photo: Image, style: Style
) -> None:
    """Write overlay and heat layer of a map and its photo, both at the size they are drawn at."""
    from visattn.overlay import draw, heat

    layer = PillowImage.fromarray(heat(saliency, style, fit(photo.size, HEAT_SIDE)))
    _save_png(layer, store.root / store.heat(key))
    _save_png(draw(saliency, photo, style), store.root / store.overlay(key))


def at_size(saliency: SaliencyMap, size: Size) -> SaliencyMap:
    """Return the map with the geometry of its photo shown at another size."""
    from visattn.overlay.placement import resized

    if size == saliency.geometry.original:
        return saliency
    return replace(saliency, geometry=resized(saliency.geometry, size), photo=None)


def reduced(photo: Image, size: Size) -> Image:
    """Return the photo at another size, with the name and hash of its file."""
    if size == photo.size:
        return photo
    import numpy as np

    pixels = np.asarray(to_size(photo.pillow(), size)).copy()
    return replace(photo, pixels=pixels)


def to_size(picture: PillowImage.Image, size: Size) -> PillowImage.Image:
    """Return a picture at another size, itself where that is its own."""
    wanted = (size.width, size.height)
    if picture.size == wanted:
        return picture
    return picture.resize(wanted, PillowImage.Resampling.LANCZOS, reducing_gap=3.0)


def _save_png(picture: PillowImage.Image, path: Path) -> None:
    with atomic_path(path) as temporary:
        picture.save(temporary, compress_level=4)


def statistics_of(saliency: SaliencyMap, style: Style) -> dict[str, Any]:
    """Return the map's own numbers, and what the page needs to show its scale and its place."""
    from visattn.overlay import Scale

    grid, geometry = saliency.grid, saliency.geometry
    scale = Scale.of(saliency, style)
    height, width = geometry.original
    top, left, bottom, right = geometry.visible
    return {
        **no_statistics(),
        **{name: finite(value) for name, value in saliency.statistics.items()},
        "minimum": finite(float(grid.min())),
        "maximum": finite(float(grid.max())),
        "scale": [finite(scale.limits.low), finite(scale.limits.high)],
        "normalization": scale.name,
        "colormap": scale.colormap,
        "seen": [top / height, left / width, bottom / height, right / width],
        "no_signal": saliency.no_signal,
        "method": saliency.method,
        "prediction": saliency.prediction.label if saliency.prediction else None,
        "prediction_probability": (
            finite(saliency.prediction.probability) if saliency.prediction else None
        ),
    }


def _warnings(saliency: SaliencyMap) -> tuple[str, ...]:
    silent = saliency.no_signal
    if silent is None or any(silent in warning for warning in saliency.warnings):
        return saliency.warnings
    return (*saliency.warnings, f"no signal: {silent}")


def finite(value: Any) -> Any:
    """Return None for NaN and infinity, which JSON does not have; a number as a plain one."""
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
