"""``visattn figure``: images, models, methods, classes, layers or heads side by side."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visattn.cli.figure_axes import Axes, loaded, networks
from visattn.cli.options import Device, ImageSize, options_of, size_of
from visattn.cli.progress import shown

if TYPE_CHECKING:
    from visattn.saliency import SaliencyMap

Several = list[str]


def command(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Photographs.")],
    model: Annotated[Several, typer.Option("--model", "-m", help="Model; may be repeated.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Figure: .pdf, .svg or .png.")],
    method: Annotated[
        Several, typer.Option(help="A name of 'visattn methods'; may be repeated.")
    ] = ["auto"],  # noqa: B006  typer copies it
    rows: Annotated[
        str,
        typer.Option(
            help="Axis of the rows: images, models, methods, targets, layers, heads or "
            "queries; all other axes make the columns."
        ),
    ] = "images",
    target: Annotated[
        Several, typer.Option(help="Class index, label, top1..top5, embedding; may be repeated.")
    ] = [],  # noqa: B006
    layer: Annotated[
        Several, typer.Option(help="Layer: 3, -1, 0:12:3 or all; may be repeated.")
    ] = [],  # noqa: B006
    head: Annotated[
        Several, typer.Option(help="Head: 3, 0:6, all, mean, max or min; may be repeated.")
    ] = [],  # noqa: B006
    query: Annotated[
        Several, typer.Option(help="Whose attention: ROW,COL, pixel:X,Y, cls or mean; repeatable.")
    ] = [],  # noqa: B006
    width: Annotated[str, typer.Option(help="single, double or inches.")] = "double",
    venue: Annotated[
        str,
        typer.Option(
            help="Whose columns: cvpr, icml, neurips, iclr, eccv, ieee, acm, nature, "
            "elsevier, springer."
        ),
    ] = "cvpr",
    scale: Annotated[
        str,
        typer.Option(
            help="Maps on one colour scale: shared (all), row, column, panel (none), "
            "auto (all of one method and model)."
        ),
    ] = "auto",
    base: Annotated[str, typer.Option(help="Photo under the maps: grey, faded or photo.")] = "grey",
    contours: Annotated[
        bool, typer.Option("--contours", help="Contours at half of the scale; levels by -S.")
    ] = False,
    letters: Annotated[
        bool, typer.Option("--letters", help="Mark the panels (a), (b), ...")
    ] = False,
    photos: Annotated[
        bool, typer.Option("--photos/--no-photos", help="Show the photos beside the maps.")
    ] = True,
    dpi: Annotated[int, typer.Option(help="Pixels per inch of photos and maps.")] = 300,
    option: Annotated[
        Several, typer.Option("--option", "-O", help="Option of every method that has it.")
    ] = [],  # noqa: B006
    style: Annotated[
        Several, typer.Option("--style", "-S", help="Style option, e.g. colormap=inferno.")
    ] = [],  # noqa: B006
    weights: Annotated[
        Several, typer.Option(help="pretrained, random or a checkpoint; repeated: to compare them.")
    ] = ["pretrained"],  # noqa: B006
    image_size: ImageSize = None,
    device: Device = "auto",
) -> None:
    """Draw a figure for a paper: maps in rows and columns, with labels and colour bars."""
    from visattn.figures import Design, figure, save
    from visattn.figures.saving import require_suffix

    require_suffix(out)
    given = {"contours": True} if contours else {}
    design = Design.create(
        width=width, venue=venue, scale=scale, base=base, letters=letters, photos=photos, dpi=dpi,
        **{**given, **options_of(style)},
    )  # fmt: skip
    axes = Axes(
        images, networks(model, weights), method, target, layer, head, query, rows,
        options_of(option),
    ).completed()  # fmt: skip
    with shown() as progress:
        maps = computed(
            axes, partial(loaded, image_size=size_of(image_size), device=device), progress
        )
    save(figure(maps, design=design), out)
    typer.echo(str(out))


def computed(axes: Axes, load: Any, progress: Any) -> list[list[SaliencyMap]]:
    """Return the maps of a figure, in rows."""
    from visattn.progress import reporting

    with reporting(progress):
        return axes.maps(load)
