"""``visattn explain``: one image, one method, one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from visattn.cli.options import (
    Device,
    ImageSize,
    ModelName,
    Weights,
    options_of,
    size_of,
    target_of,
    weights_of,
)
from visattn.cli.progress import shown
from visattn.errors import ConfigError

if TYPE_CHECKING:
    from visattn.overlay import Style
    from visattn.saliency import SaliencyMap

SHEETS = (".png", ".pdf", ".svg")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".pdf", ".svg", ".npz")


def command(
    image: Annotated[Path, typer.Argument(help="A photograph.")],
    model: ModelName,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Picture (.png .jpg .webp .pdf .svg) or .npz.")
    ],
    method: Annotated[str, typer.Option(help="A name of 'visattn methods', or auto.")] = "auto",
    target: Annotated[
        str | None,
        typer.Option(help="Class index, label, top1..top5 or embedding; default: prediction."),
    ] = None,
    option: Annotated[
        list[str], typer.Option("--option", "-O", help="Method option, e.g. start_layer=2.")
    ] = [],  # noqa: B006  typer copies it
    style: Annotated[
        list[str], typer.Option("--style", "-S", help="Style option, e.g. colormap=viridis.")
    ] = [],  # noqa: B006
    weights: Weights = "pretrained",
    image_size: ImageSize = None,
    device: Device = "auto",
) -> None:
    """Explain one image and write the picture, or the raw map as .npz."""
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out {out.name}: choose one of {', '.join(SUFFIXES)}.")
    from visattn.explanation import explain
    from visattn.models import load_model
    from visattn.overlay import Style

    drawn = Style.create(**{"caption": True, "colorbar": True, **options_of(style)})
    loaded = load_model(
        model, weights=weights_of(weights), image_size=size_of(image_size), device=device
    )
    with shown() as progress:
        (found,) = explain(
            loaded,
            str(image),
            method=method,
            target=target_of(target),
            progress=progress,
            **options_of(option),
        )
    write(found, out, drawn)
    for warning in found.warnings:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(str(out))


def write(found: SaliencyMap, out: Path, style: Style) -> None:
    """Write a map as raw values, vector page or picture, by the suffix of ``out``.

    A map with a ranking of channels becomes the sheet of its channels.
    """
    from visattn.atomic import atomic_path
    from visattn.overlay import draw

    if out.suffix.lower() == ".npz":
        found.save(out)
    elif found.channels is not None and out.suffix.lower() in SHEETS:
        from visattn.figures import save_channels

        save_channels(found, found.photograph(), style, out)
    elif out.suffix.lower() in (".pdf", ".svg"):
        from visattn.figures import save_page

        save_page(found, found.photograph(), style, out)
    else:
        with atomic_path(out) as temporary:
            draw(found, found.photograph(), style).save(temporary, quality=92)
