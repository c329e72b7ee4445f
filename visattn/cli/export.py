"""``visattn export``: masks and contact sheets of a stored gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from visattn.errors import ConfigError

Names = Annotated[list[str], typer.Option(help="Only maps of this method; may be repeated.")]


def command(
    out_dir: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="A gallery that 'visattn gallery' made.")
    ],
    table: Annotated[
        Path | None,
        typer.Option(help="Only the maps of a table that the page saved, in its order."),
    ] = None,
    method: Names = [],  # noqa: B006  typer copies it
    model: Annotated[
        list[str], typer.Option("--model", "-m", help="Only maps of this model; may be repeated.")
    ] = [],  # noqa: B006
    coco: Annotated[
        Path | None, typer.Option(metavar="FILE.json", help="Masks as COCO-style run lengths.")
    ] = None,
    share: Annotated[
        float, typer.Option(help="Masks hold this share of a map's positive mass.")
    ] = 0.5,
    sheet: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|layers|heads",
            help="Contact sheet of the maps: .pdf pages or one .png. 'layers' or 'heads': of each "
            "photo one sheet of the attention in all layers or heads, from the model, in "
            "OUT_DIR/sheets.",
        ),
    ] = None,
    photo: Annotated[
        list[str],
        typer.Option(help="For sheets of layers and heads: only this photo; may be repeated."),
    ] = [],  # noqa: B006
    layer: Annotated[
        str | None, typer.Option(help="For sheets of heads: only of this layer, e.g. -1.")
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(
            help="For sheets of layers and heads: folder of the photos, where it has moved."
        ),
    ] = None,
    device: Annotated[
        str, typer.Option(help="For sheets of layers and heads: auto, cpu, cuda, ...")
    ] = "auto",
) -> None:
    """Export maps of a stored gallery as masks (COCO) and as contact sheets.

    Only sheets of layers and heads run the model. The table itself (CSV) is saved by the page. Exit
    codes: 0 all done; 1 finished, with what is left out listed; 2 the command is wrong, nothing
    written.
    """
    from visattn.gallery.store import SHEETS

    if sheet in SHEETS:
        if coco is not None:
            raise ConfigError(f"--coco and --sheet {sheet} are two exports: give one of them.")
        chosen = {"names": photo, "models": model, "methods": method, "folder": photos}
        raise typer.Exit(_explained(out_dir, sheet, layer, device, table=table, **chosen))
    if photo or layer is not None or photos is not None:
        raise ConfigError(
            "--photo, --layer and --photos are for --sheet layers and --sheet heads; a selection "
            "of stored maps is --table, --model and --method."
        )
    file = None if sheet is None else Path(sheet)
    raise typer.Exit(_stored(out_dir, table, model, method, coco, share, file))


def _stored(
    out: Path,
    table: Path | None,
    models: list[str],
    methods: list[str],
    coco: Path | None,
    share: float,
    sheet: Path | None,
) -> int:
    """Export stored maps, and return the exit code."""
    from visattn.gallery import export_gallery

    maps, masks, clips, failures = export_gallery(
        out, table=table, models=models, methods=methods, coco=coco, share=share, sheet=sheet
    )
    for image, name, kind in clips:
        typer.echo(f"left out, a clip: {image}, {kind} of {name}", err=True)
    for (image, name, kind), why in failures.items():
        typer.echo(f"left out: {image}, {kind} of {name}: {why}", err=True)
    if sheet is not None:
        typer.echo(f"{sheet}: {maps} map{'' if maps == 1 else 's'}")
    if coco is not None:
        typer.echo(f"{coco}: {masks} mask{'' if masks == 1 else 's'} of {maps} maps")
    return 1 if failures else 0


def _explained(out: Path, kind: str, layer: str | None, device: str, **chosen: Any) -> int:
    """Write sheets of layers or heads, and return the exit code."""
    from visattn.cli.export_attention import Wish, sheets
    from visattn.gallery.again import chosen_photos
    from visattn.gallery.store import HEADS, Store

    if layer is not None and kind != HEADS:
        raise ConfigError(f"--layer {layer}: a sheet of layers shows all; it is for --sheet heads.")
    found = chosen_photos(out, **chosen)
    for image in found.clips:
        typer.echo(f"left out, a clip: {image}", err=True)
    failures, written = list(found.failures.values()), 0
    with Store(out).lock():
        for path, why in sheets(out, found, Wish(kind, layer, device)):
            if path is None:
                failures.append(why)
            else:
                written += 1
                typer.echo(path)
    if not written:
        raise ConfigError("\n".join(failures))
    for why in failures:
        typer.echo(f"left out: {why}", err=True)
    return 1 if failures else 0
