"""``visattn export``: masks and contact sheets of a stored gallery."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def command(
    out_dir: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="A gallery that 'visattn gallery' made.")
    ],
    table: Annotated[
        Path | None,
        typer.Option(help="Only the maps of a table that the page saved, in its order."),
    ] = None,
    method: Annotated[
        list[str], typer.Option(help="Only maps of this method; may be repeated.")
    ] = [],  # noqa: B006  typer copies it
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
        Path | None, typer.Option(metavar="FILE", help="Contact sheet: .pdf pages or one .png.")
    ] = None,
) -> None:
    """Export maps of a stored gallery as masks (COCO) and as a contact sheet, without the model.

    The table itself (CSV) is saved by the page. Exit codes: 0 all done; 1 finished, with maps that
    cannot be read listed; 2 the command is wrong, nothing written.
    """
    from visattn.gallery import export_gallery

    maps, masks, clips, failures = export_gallery(
        out_dir, table=table, models=model, methods=method, coco=coco, share=share, sheet=sheet
    )
    for image, name, kind in clips:
        typer.echo(f"left out, a clip: {image}, {kind} of {name}", err=True)
    for (image, name, kind), why in failures.items():
        typer.echo(f"left out: {image}, {kind} of {name}: {why}", err=True)
    if sheet is not None:
        typer.echo(f"{sheet}: {maps} map{'' if maps == 1 else 's'}")
    if coco is not None:
        typer.echo(f"{coco}: {masks} mask{'' if masks == 1 else 's'} of {maps} maps")
    raise typer.Exit(1 if failures else 0)
