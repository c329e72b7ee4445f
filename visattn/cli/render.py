"""``visattn render``: a stored gallery in other colours, without the model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visattn.cli.options import options_of


def command(
    out_dir: Annotated[
        Path, typer.Argument(metavar="OUT_DIR", help="A gallery that 'visattn gallery' made.")
    ],
    style: Annotated[
        list[str],
        typer.Option(
            "--style", "-S", help="Style option, e.g. colormap=inferno; the others stay as drawn."
        ),
    ] = [],  # noqa: B006  typer copies it
    method: Annotated[
        list[str], typer.Option(help="Only maps of this method; may be repeated.")
    ] = [],  # noqa: B006
    model: Annotated[
        list[str], typer.Option("--model", "-m", help="Only maps of this model; may be repeated.")
    ] = [],  # noqa: B006
    scale: Annotated[
        str | None,
        typer.Option(
            help="shared: one scale of raw values for all photos of a model and method; own: each "
            "map has its own; default: as it was drawn."
        ),
    ] = None,
    smoothing: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Average the maps of clips over time, 0 for not; default: as they were drawn.",
        ),
    ] = None,
    photos: Annotated[
        Path | None,
        typer.Option(help="Folder of the original photos, where it has moved since."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads that draw.")] = None,
) -> None:
    """Draw a stored gallery again: colours, scale, contours, or only some methods.

    Exit codes: 0 all done; 1 finished, with failures listed; 2 the command is wrong, nothing
    written.
    """
    from visattn.gallery import render_gallery

    done = render_gallery(
        out_dir,
        options_of(style),
        models=model,
        methods=method,
        scale=scale,
        smoothing=smoothing,
        photos=photos,
        workers=workers,
    )
    for (image, name, kind), why in done.failures.items():
        typer.echo(f"left as it was: {image}, {kind} of {name}: {why}", err=True)
    if done.copies:
        typer.echo(
            f"{len(done.copies)} photos are no longer there as they were and were drawn from the "
            "gallery's own copies; --photos names another folder.",
            err=True,
        )
    typer.echo(f"{done.drawn} map{'' if done.drawn == 1 else 's'} drawn")
    typer.echo(done.index.resolve())
    raise typer.Exit(done.exit_code)
