"""``visattn figure``: images, models, methods, classes, layers or heads side by side."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visattn.cli.options import options_of
from visattn.cli.progress import shown
from visattn.errors import ConfigError

if TYPE_CHECKING:
    from visattn.cli.figure_config import FigureConfig
    from visattn.figures.arrangement import Rows as MapRows

Labels = dict[str, tuple[str, ...] | None]
Images = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="IMAGE",
        help="Photographs; or maps stored as .npz, which need no model.",
        show_default=False,
    ),
]
Models = Annotated[list[str] | None, typer.Option("--model", "-m", help="Model; repeatable.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Figure: .pdf, .svg or .png.")]
Methods = Annotated[
    list[str] | None, typer.Option(help="A name of 'visattn methods', or auto; repeatable.")
]
Rows = Annotated[
    str | None,
    typer.Option(
        help="What makes the rows: images (default), models, methods, targets, layers, heads or "
        "queries; all the others make the columns."
    ),
]
Targets = Annotated[
    list[str] | None,
    typer.Option(help="Class index, label, top1..top5 or embedding; repeatable."),
]
Layers = Annotated[list[str] | None, typer.Option(help="Layer: 3, -1, 0:12:3 or all; repeatable.")]
Heads = Annotated[
    list[str] | None, typer.Option(help="Head: 3, 0:6, all, mean, max or min; repeatable.")
]
Queries = Annotated[
    list[str] | None,
    typer.Option(help="Whose attention: patch ROW,COL, pixel:X,Y, cls or mean; repeatable."),
]
WidthText = Annotated[str | None, typer.Option(help="single, double (default) or inches.")]
Venue = Annotated[
    str | None,
    typer.Option(
        help="Whose columns: cvpr (default), icml, neurips, iclr, eccv, ieee, acm, nature, "
        "elsevier or springer."
    ),
]
ScaleName = Annotated[
    str | None,
    typer.Option(
        help="Maps on one colour scale: shared (all), row, column, panel (none), or auto: all of "
        "one method and model with ranges alike, else none."
    ),
]
Base = Annotated[
    str | None, typer.Option(help="Photo under the maps: grey (default), faded or photo.")
]
Contours = Annotated[
    bool | None,
    typer.Option(
        "--contours", help="Contours at half of the scale; -S contours=[0.3,0.6] for others."
    ),
]
Letters = Annotated[bool | None, typer.Option("--letters", help="Mark panels (a), (b), ...")]
Photos = Annotated[
    bool | None, typer.Option("--photos/--no-photos", help="Show the photos beside the maps.")
]
Dpi = Annotated[int | None, typer.Option(help="Pixels per inch of photos and maps; default 300.")]
Difference = Annotated[
    bool | None,
    typer.Option("--difference", help="Add first - second; needs two maps in each row."),
]
Agreement = Annotated[
    str | None,
    typer.Option(help="Draw how alike the maps of a row are instead: spearman, pearson or iou."),
]
RowLabels = Annotated[
    list[str] | None, typer.Option("--row-label", help="Label of a row, top first; repeatable.")
]
ColumnLabels = Annotated[
    list[str] | None,
    typer.Option("--column-label", help="Label of a column of maps, left first; repeatable."),
]
Wrap = Annotated[
    int | None, typer.Option(help="Maps side by side where there is a single row or column.")
]
Stub = Annotated[
    bool | None, typer.Option("--stub/--no-stub", help="Write caption and LaTeX stub beside it.")
]
MapsFolder = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Also write every raw map there, as .npz."),
]
PhotosFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="Where the photos of stored maps are now, found by name and content.",
    ),
]
Options = Annotated[
    list[str] | None, typer.Option("--option", "-O", help="Option of every method that has it.")
]
StyleOptions = Annotated[
    list[str] | None, typer.Option("--style", "-S", help="Style option, e.g. colormap=inferno.")
]
WeightsList = Annotated[
    list[str] | None,
    typer.Option(help="pretrained, random or a checkpoint; repeatable, to compare checkpoints."),
]
Side = Annotated[
    str | None, typer.Option(metavar="SIZE", help="Input size: 448, or 384x512 (height x width).")
]
DeviceName = Annotated[str | None, typer.Option(help="auto, cpu, cuda, ...; default auto.")]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="YAML file such as configs/figure.yaml; flags override it."),
]


def command(
    images: Images = None,
    model: Models = None,
    method: Methods = None,
    out: Out = None,
    rows: Rows = None,
    target: Targets = None,
    layer: Layers = None,
    head: Heads = None,
    query: Queries = None,
    width: WidthText = None,
    venue: Venue = None,
    scale: ScaleName = None,
    base: Base = None,
    contours: Contours = None,
    letters: Letters = None,
    photos: Photos = None,
    dpi: Dpi = None,
    difference: Difference = None,
    agreement: Agreement = None,
    wrap: Wrap = None,
    stub: Stub = None,
    maps: MapsFolder = None,
    photos_in: PhotosFolder = None,
    row_label: RowLabels = None,
    column_label: ColumnLabels = None,
    option: Options = None,
    style: StyleOptions = None,
    weights: WeightsList = None,
    image_size: Side = None,
    device: DeviceName = None,
    config: Config = None,
) -> None:
    """Draw a figure for a paper: maps in rows and columns, with labels and colour bars.

    Beside FILE stand FILE's caption (NAME.caption.txt) and a LaTeX stub (NAME.figure.tex).
    """
    from visattn.cli.figure_config import resolve

    flags = {
        "images": images, "models": model, "methods": method, "out": out, "rows": rows,
        "targets": target, "layers": layer, "heads": head, "queries": query, "width": width,
        "venue": venue, "scale": scale, "base": base, "contours": contours, "letters": letters,
        "photos": photos, "dpi": dpi, "difference": difference, "agreement": agreement,
        "wrap": wrap, "stub": stub, "maps": maps, "photos_in": photos_in,
        "row_labels": row_label, "column_labels": column_label, "options": options_of(option or []),
        "style": options_of(style or []), "weights": weights, "image_size": image_size,
        "device": device,
    }  # fmt: skip
    chosen = resolve(config, flags)
    for warning in write(chosen):
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(str(chosen.out))


def write(config: FigureConfig) -> list[str]:
    """Compute the maps, write the figure, and return what a reader must be warned of."""
    from visattn import figures

    design = config.design
    check(config)
    maps = computed(config)
    if config.agreement:
        matrix = figures.agreement(maps, measure=config.agreement, labels=config.column_labels)
        drawn, words = figures.agreement_figure(matrix, design=design), matrix.caption
    else:
        kept, labels = arrangement(config, maps)
        drawn = figures.figure(kept, **labels, design=design)
        words = figures.caption(kept, design=design)
    notes = figures.warnings(maps)
    if config.maps is not None:
        figures.save_maps(maps, config.maps)
    figures.save(drawn, config.out)
    if config.stub:
        figures.save_stub(config.out, words, design.columns, notes)
    return [*notes, *design.columns.advice(float(drawn.get_size_inches()[1]))]


def arrangement(config: FigureConfig, maps: MapRows) -> tuple[MapRows, Labels]:
    """Return the maps as they are laid out, and the labels that were given for them.

    Where a line of maps was laid out in several, its labels stand above the panels.
    """
    from visattn import figures

    labels: Labels = {"rows": config.row_labels, "columns": config.column_labels}
    if config.difference:
        return figures.with_differences(maps), labels
    most = config.wrap or (4 if config.design.columns.inches < 4 else 6)
    kept = figures.arranged(maps, most)
    return kept, labels if kept is maps else _along(config, len(maps) > 1)


def _along(config: FigureConfig, column: bool) -> Labels:
    """Return the labels of a wrapped line, one for each of its maps."""
    across, name, along = (
        (config.column_labels, "--column-label", "--row-label")
        if column
        else (config.row_labels, "--row-label", "--column-label")
    )
    if across is not None:
        raise ConfigError(
            f"{name} {' '.join(across)}: these maps are a single line, laid out side by side; "
            f"name each map with {along}, or leave it out."
        )
    return {"panels": config.row_labels if column else config.column_labels}


def computed(config: FigureConfig) -> MapRows:
    """Return the maps of a figure in rows, reporting progress."""
    from visattn.cli.figure_axes import loaded
    from visattn.cli.figure_stored import load, stored
    from visattn.progress import reporting

    if stored(config.images):
        return load(config.images, config.rows, config.photos_in)
    with shown() as progress, reporting(progress):
        return config.axes.maps(partial(loaded, image_size=config.size, device=config.device))


def check(config: FigureConfig) -> None:
    """Raise `ConfigError` for what no maps could serve, before any is computed."""
    from visattn.figures.agreement import require_measure
    from visattn.figures.saving import require_suffix
    from visattn.figures.stub import require_latex

    require_suffix(config.out)
    if config.stub:
        require_latex(config.out.name)
    if config.agreement is not None:
        require_measure(config.agreement)
        if config.row_labels:
            raise ConfigError(
                f"--row-label {' '.join(config.row_labels)}: agreement is a matrix of the maps of "
                "a row, averaged over the rows; name its maps with --column-label."
            )
        if config.difference:
            raise ConfigError("--difference and --agreement are two figures: give one of them.")
