"""One panel: a map over its photo on a matplotlib Axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.patches import Rectangle
from PIL import Image as PillowImage

from visattn.errors import ImageError
from visattn.figures.design import Design
from visattn.figures.facts import query_box
from visattn.figures.typesetting import leading, wrap
from visattn.geometry import Box
from visattn.images import Image, Pixels, Size
from visattn.overlay import Scale, Style, contours, draw
from visattn.overlay.blend import LUMA, compose
from visattn.overlay.colormap import table
from visattn.overlay.notice import notice
from visattn.overlay.placement import resized
from visattn.overlay.stroke import line_width
from visattn.overlay.unseen import fade, outline
from visattn.saliency import SaliencyMap

FADED = 0.45
LARGEST = 1600


@dataclass(frozen=True)
class Panel:
    """A photo, alone or under a map that is drawn in a style."""

    photo: Image
    saliency: SaliencyMap | None = None
    style: Style = field(default_factory=Style)

    @property
    def aspect(self) -> float:
        """Height over width."""
        return self.photo.size.height / self.photo.size.width

    @property
    def notice(self) -> str | None:
        """Why there is nothing to see, or why something asked for cannot be drawn, or None."""
        if self.saliency is None:
            return None
        return notice(self.saliency, self.style, Scale.of(self.saliency, self.style))


def show(
    saliency: SaliencyMap, axes: Axes, *, photo: Image | None = None, **options: Any
) -> ScalarMappable:
    """Draw a map over its photo on an `Axes`, and return its scale for ``figure.colorbar``.

    The colours of the scale are those of the map over white: as faint where the paint is faint.

    The axes get the coordinates of the photo, x to the right and y down, in pixels. ``options``
    are those of `Design` and of `visattn.overlay.Style` (base, contours, normalization, ...). A map
    without signal is the photo with the reason. Neither pyplot nor its current figure is touched.
    Raises `ImageError` when the photo is gone or not the map's, `ConfigError` for other options.
    """
    design = Design.create(**options)
    image = saliency.photograph() if photo is None else photo
    panel = Panel(image, saliency, design.style)
    shrink = min(1.0, LARGEST / max(image.size))
    size = Size(*(max(1, round(side * shrink)) for side in image.size))
    paint(panel, axes, size, design)
    return scale_of(saliency, design.style)


def scale_of(saliency: SaliencyMap, style: Style) -> ScalarMappable:
    """Return raw values to colours, as they are painted over white, as a matplotlib mappable."""
    scale = Scale.of(saliency, style)
    paint = table(scale.colormap) / 255.0
    drawn = np.linspace(-1.0 if scale.diverging else 0.0, 1.0, len(paint))
    alpha = style.opacity * np.abs(drawn)[:, None]
    colours = ListedColormap((1 - alpha) + alpha * paint, name=scale.colormap)
    low, high = scale.limits
    return ScalarMappable(Normalize(low, high if high > low else low + 1.0), colours)


def paint(panel: Panel, axes: Axes, size: Size, design: Design) -> None:
    """Draw a panel: raster of ``size`` pixels; contours, query and words as vectors."""
    height, width = panel.photo.size
    axes.imshow(
        raster(panel, size, design.base),
        interpolation="none",
        origin="upper",  # not the user's image.origin, which would turn the photo over
        extent=(0.0, float(width), float(height), 0.0),
        aspect="equal",
    )
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    if panel.saliency is None:
        return
    if panel.saliency.no_signal is None:
        _contours(panel.saliency, panel.style, axes)
    box = query_box(panel.saliency)
    if box is not None:
        _mark(box, axes)
    if panel.notice:
        _say(panel.notice, axes, design.font_size)


def raster(panel: Panel, size: Size, base: str) -> Pixels:
    """Return the pixels of a panel at a size: photo, paint and the mark of the unseen region.

    Raises `ImageError` when the photo is not the one that the map was computed for.
    """
    if panel.saliency is None:
        return _resampled(panel.photo, size).pixels
    known = panel.saliency.geometry.original
    if panel.photo.size != known:
        raise ImageError(
            f"The photo has {panel.photo.size.width} x {panel.photo.size.height} pixels, but the "
            f"map belongs to one of {known.width} x {known.height}."
        )
    photo = based(_resampled(panel.photo, size), base)
    geometry = resized(panel.saliency.geometry, size)
    if panel.saliency.no_signal or Scale.of(panel.saliency, panel.style).empty:
        width = line_width(size, panel.style.line_width)
        how = panel.style.unseen
        return compose(photo.pixels, [*fade(geometry, how, width), *outline(geometry, how, width)])
    bare = replace(panel.style, contours=(), caption=False, colorbar=False)
    if panel.notice:
        bare = replace(bare, mask=None, box=None)
    return np.asarray(draw(replace(panel.saliency, geometry=geometry, photo=None), photo, bare))


def based(photo: Image, base: str) -> Image:
    """Return the photo as it lies under a map: ``photo``, ``grey`` or ``faded``."""
    if base == "photo":
        return photo
    values = photo.pixels.astype(np.float64)
    if base == "grey":
        changed = np.repeat((values @ LUMA)[..., None], 3, axis=2)
    else:
        changed = FADED * values + (1 - FADED) * 255.0
    return replace(photo, pixels=np.rint(changed).astype(np.uint8))


def _resampled(photo: Image, size: Size) -> Image:
    if size == photo.size:
        return photo
    picture = photo.pillow().resize((size.width, size.height), PillowImage.Resampling.LANCZOS)
    return replace(photo, pixels=np.asarray(picture).copy())


def _contours(saliency: SaliencyMap, style: Style, axes: Axes) -> None:
    if not style.contours:
        return
    scale = Scale.of(saliency, style)
    paths = contours(saliency, scale, style.contours, style.interpolation)
    lines = [path[:, ::-1] for path in paths]
    casing = "white" if style.line_color == "black" else "black"
    for colour, wide, alpha in ((casing, 1.4, 0.55), (style.line_color, 0.7, 1.0)):
        axes.add_collection(
            LineCollection(lines, colors=colour, linewidths=wide, alpha=alpha), autolim=False
        )


def _mark(box: Box, axes: Axes) -> None:
    corner, wide, high = (box.left, box.top), box.right - box.left, box.bottom - box.top
    for colour, width in (("black", 2.0), ("white", 1.0)):
        axes.add_patch(Rectangle(corner, wide, high, fill=False, edgecolor=colour, linewidth=width))


def _say(words: str, axes: Axes, size: float) -> None:
    """Write a notice into the middle of a panel, as much of it as there is room for."""
    shown = axes.get_window_extent().transformed(axes.figure.dpi_scale_trans.inverted())
    lines = _fitting(words, size, shown.width * 0.9, shown.height * 0.9)
    axes.text(
        0.5, 0.5, "\n".join(lines[0]), transform=axes.transAxes, ha="center", va="center",
        fontsize=lines[1], linespacing=1.05, parse_math=False,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
    )  # fmt: skip


def _fitting(words: str, size: float, wide: float, high: float) -> tuple[Sequence[str], float]:
    """Return lines and text size: the whole notice, or where it is too long its first words."""
    for asked in (words, words.partition(":")[0]):
        for points in (size, size - 1, size - 2):
            lines = wrap(asked, points, wide)
            if points > 3 and len(lines) * leading(points) <= high:
                return lines, points
    return [words.partition(":")[0]], max(3.0, size - 2)
