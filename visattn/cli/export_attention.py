"""Contact sheets of all layers or heads of photos in a stored gallery; their models run again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from visattn.errors import UnsupportedMethodError, VisattnError

if TYPE_CHECKING:
    from PIL import Image as PillowImage

    from visattn.figures.arrangement import Rows
    from visattn.gallery.again import Chosen
    from visattn.models import Model

MOST, WIDE, DPI = 6, 1.2, 200  # maps in a line; inches of a map; pixels per inch
MARGIN = 16


@dataclass(frozen=True)
class Wish:
    """What the sheets show: all ``layers``, or all ``heads`` (of ``layer`` alone, if given)."""

    kind: str
    layer: str | None = None
    device: str = "auto"


def sheets(out: Path, chosen: Chosen, wish: Wish) -> Iterator[tuple[Path | None, str]]:
    """Write one contact sheet per photo and model; yield its path, or None and why there is none.

    The maps are raw attention of the tokens that the model's head reads.
    """
    from visattn.gallery.again import recorded_model
    from visattn.gallery.store import Store

    for name, photos in chosen.photos.items():
        try:
            model = recorded_model(chosen.record, name, wish.device)
        except VisattnError as error:
            yield None, str(error)
            continue
        for image, path in photos.items():
            place = out / Store(out).sheet(image, name, wish.kind, wish.layer)
            try:
                _write(place, image, _maps(model, path, wish))
            except UnsupportedMethodError as error:
                yield None, str(error)
                break  # it is the model's fault
            except VisattnError as error:
                yield None, f"{image}: {error}"
            else:
                yield place, ""


def _maps(model: Model, photo: Path, wish: Wish) -> Rows:
    from visattn.cli.figure_axes import Axes, Network
    from visattn.gallery.store import HEADS, LAYERS

    axes = Axes(
        [photo],
        [Network(model.name)],
        ["attention"],
        layers=(wish.layer or "all",),
        heads=("all",) if wish.kind == HEADS else (),
        rows=wish.kind if wish.layer else LAYERS,
    )
    return axes.maps(lambda _: model)


def _write(place: Path, image: str, maps: Rows) -> None:
    """Write a sheet: maps of 1.2 inches, and below them what they are."""
    from PIL import Image as PillowImage

    from visattn import figures
    from visattn.atomic import atomic_path
    from visattn.gallery.store import writing

    kept = figures.arranged(maps, MOST)
    inches = WIDE * (max(map(len, kept)) + 1)
    design = figures.Design(width=inches, dpi=DPI, base="photo")
    with TemporaryDirectory() as folder:
        path = figures.save(figures.figure(kept, design=design), Path(folder) / "sheet.png")
        with PillowImage.open(path) as opened:
            picture = opened.convert("RGB")
    whole = _described(picture, image, figures.caption(kept, design=design))
    with writing(place), atomic_path(place) as temporary:
        whole.save(temporary, "PNG", dpi=(DPI, DPI))


def _described(picture: PillowImage.Image, image: str, words: str) -> PillowImage.Image:
    from PIL import Image as PillowImage

    from visattn.images import Size
    from visattn.overlay import Style
    from visattn.overlay.strip import Line, Sheet, stack, text_strip
    from visattn.overlay.text import printable, shorten, wrap

    style = Style(font_size=22, background="white")
    sheet = Sheet.of(Size(picture.height, picture.width + 2 * MARGIN), style)
    title = shorten(printable(image), sheet.face(bold=True), sheet.room)
    lines = wrap(printable(words), sheet.face(), sheet.room)
    strip = text_strip([Line(title, bold=True), *(Line(each) for each in lines)], sheet)
    framed = PillowImage.new("RGB", (picture.width + 2 * MARGIN, picture.height + MARGIN), "white")
    framed.paste(picture, (MARGIN, MARGIN))
    return stack(framed, [strip])
