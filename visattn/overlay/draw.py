"""Draw: a saliency map over its photo."""

from __future__ import annotations

from PIL import Image as PillowImage

from visattn.errors import ImageError
from visattn.images import Image
from visattn.overlay.blend import Layer, compose, dim, paint
from visattn.overlay.caption import caption
from visattn.overlay.colorbar import colorbar
from visattn.overlay.contour import contours
from visattn.overlay.mask import frame, kept, mass_box
from visattn.overlay.notice import banner, notice, notice_strip
from visattn.overlay.scale import Scale
from visattn.overlay.strip import Sheet, stack
from visattn.overlay.stroke import line_width, stroke
from visattn.overlay.style import Style
from visattn.overlay.unseen import fade, outline
from visattn.saliency import SaliencyMap

BOX_WIDTH = 1.5


def draw(saliency: SaliencyMap, photo: Image, style: Style) -> PillowImage.Image:
    """Return the map over its photo, RGB.

    Per pixel ``(1 - a) photo + a colour``, ``a = opacity |drawn value|``: linear in the value, the
    photo itself where the map is zero. The picture has the size of the photo; colour bar and
    caption, where the style asks for them, stand below it, with the photo at the top left. A map
    without signal is the photo with the reason: on a strip below, or on a banner across its bottom
    when there are no strips. Raises `ImageError` when the photo is not the size the map was
    computed for.
    """
    if photo.size != saliency.geometry.original:
        raise ImageError(
            f"The photo has {photo.size.width} x {photo.size.height} pixels, but the map belongs "
            f"to one of {saliency.geometry.original.width} x {saliency.geometry.original.height}."
        )
    scale = Scale.of(saliency, style)
    words = notice(saliency, style, scale)
    layers = _layers(saliency, style, scale)
    picture = PillowImage.fromarray(compose(photo.pixels, layers))
    if not (style.colorbar or style.caption):
        return banner(picture, words, style) if words else picture
    return stack(picture, _strips(saliency, photo, style, scale, words))


def _layers(saliency: SaliencyMap, style: Style, scale: Scale) -> list[Layer]:
    size = saliency.geometry.original
    width = line_width(size, style.line_width)
    layers = fade(saliency.geometry, style.unseen, width)
    if style.mask is not None and not saliency.no_signal:
        layers.append(dim(kept(saliency, style.mask), style.dim))
    if not saliency.no_signal:
        values = scale.values(saliency.on_image(style.interpolation))
        layers.append(paint(values, scale, style.opacity))
    layers += outline(saliency.geometry, style.unseen, width)
    lines = contours(saliency, scale, style.contours, style.interpolation)
    layers += stroke(lines, size, width, style.line_color)
    return layers + _box(saliency, style, BOX_WIDTH * width)


def _box(saliency: SaliencyMap, style: Style, width: float) -> list[Layer]:
    box = mass_box(saliency, style.box) if style.box is not None else None
    if box is None:
        return []
    size = saliency.geometry.original
    return stroke([frame(box, width / 2)], size, width, style.line_color)


def _strips(
    saliency: SaliencyMap, photo: Image, style: Style, scale: Scale, words: str | None
) -> list[PillowImage.Image]:
    sheet = Sheet.of(photo.size, style)
    strips = []
    if words is not None:
        strips.append(notice_strip(words, sheet))
    if style.colorbar and not saliency.no_signal and not scale.empty:
        strips.append(colorbar(scale, saliency.grid, style.opacity, sheet))
    if style.caption:
        strips.append(caption(saliency, photo, style, scale, sheet))
    return strips
