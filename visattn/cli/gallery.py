"""``visattn gallery``: a folder of photos becomes an annotated gallery."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from visattn.cli.options import options_of, size_of

Folder = Annotated[
    Path | None,
    typer.Argument(metavar="INPUT_DIR", help="Folder of photos and clips, searched recursively."),
]
Models = Annotated[list[str] | None, typer.Option("--model", "-m", help="Model; may be repeated.")]
Methods = Annotated[
    list[str] | None, typer.Option(help="A name of 'visattn methods'; may be repeated.")
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="OUT_DIR", help="Folder of the gallery.")
]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="YAML file such as configs/demo.yaml; flags override it."),
]
TargetText = Annotated[
    str | None,
    typer.Option(
        help="For class-specific methods: class index, label, top1..top5 or embedding; "
        "default: the prediction."
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", "-O", help="Option of every method that has it, e.g. start_layer=2."),
]
StyleOptions = Annotated[
    list[str] | None, typer.Option("--style", "-S", help="Style option, e.g. colormap=inferno.")
]
WeightsList = Annotated[
    list[str] | None,
    typer.Option(
        help="pretrained, random or the path of a checkpoint (.safetensors, .pth): one for all "
        "models, or repeated, one for each."
    ),
]
Side = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Input size of models without their own: 448 or 384x512."),
]
BatchSize = Annotated[int | None, typer.Option(help="Photos in one pass; default 8.")]
DeviceName = Annotated[str | None, typer.Option(help="auto, cpu, cuda, ...; default auto.")]
Workers = Annotated[int | None, typer.Option(help="Threads that decode and draw.")]
Limit = Annotated[int | None, typer.Option(help="Only the first N photos and clips.")]
Fps = Annotated[
    float | None, typer.Option(help="Frames per second read of clips; default 4, or their own.")
]
Smoothing = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Average the maps of clips over time; default 0."),
]
MaxFrames = Annotated[int | None, typer.Option(help="Most frames read of a clip; default 240.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Compute everything again.")]


def command(
    input_dir: Folder = None,
    model: Models = None,
    method: Methods = None,
    out: Out = None,
    config: Config = None,
    target: TargetText = None,
    option: Options = None,
    style: StyleOptions = None,
    weights: WeightsList = None,
    image_size: Side = None,
    batch_size: BatchSize = None,
    device: DeviceName = None,
    workers: Workers = None,
    limit: Limit = None,
    fps: Fps = None,
    smoothing: Smoothing = None,
    max_frames: MaxFrames = None,
    overwrite: Overwrite = False,
) -> None:
    """Explain every photo and clip of a folder and lay the maps out in OUT_DIR/index.html.

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
        fps=fps,
        smoothing=smoothing,
        max_frames=max_frames,
        overwrite=overwrite,
        options=options_of(option or []),
        style=options_of(style or []),
        weights=weights or (),
        image_size=size_of(image_size),
    )
    raise typer.Exit(run_on_terminal(configure))
