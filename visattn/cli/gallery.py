"""``visattn gallery``: a folder of photos becomes an annotated gallery."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from visattn.cli.options import options_of, size_of


def command(
    input_dir: Annotated[
        Path | None,
        typer.Argument(metavar="INPUT_DIR", help="Folder of photos, searched recursively."),
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option("--model", "-m", help="Model; may be repeated.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="A name of 'visattn methods'; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="OUT_DIR", help="Folder of the gallery.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="YAML file such as configs/demo.yaml; flags override it."
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="For class-specific methods: class index, label, top1..top5 or embedding; "
            "default: the prediction."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-O", help="Option of every method that has it, e.g. start_layer=2."
        ),
    ] = None,
    style: Annotated[
        list[str] | None,
        typer.Option("--style", "-S", help="Style option, e.g. colormap=inferno."),
    ] = None,
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Input size of models without their own: 448 or 384x512."
        ),
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Photos in one pass; default 8.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, ...; default auto.")] = None,
    workers: Annotated[int | None, typer.Option(help="Threads that decode and draw.")] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N photos.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Compute everything again.")
    ] = False,
) -> None:
    """Explain every photo of a folder and lay the maps out in OUT_DIR/index.html.

    A second run continues the first. Exit codes: 0 all done; 1 finished, with failures listed;
    2 the command or its config is wrong, nothing written; 130 interrupted.
    """
    from visattn.gallery import resolve_config, run_on_terminal

    configure = partial(
        resolve_config,
        input_dir=input_dir,
        out=out,
        models=model,
        methods=method,
        config_path=config,
        target=target,
        batch_size=batch_size,
        device=device,
        workers=workers,
        limit=limit,
        overwrite=overwrite,
        options=options_of(option or []),
        style=options_of(style or []),
        image_size=size_of(image_size),
    )
    raise typer.Exit(run_on_terminal(configure))
