"""``visattn inspect``: what visattn knows about a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from visattn.cli.options import Device, ImageSize, ModelArgument, Weights, size_of, weights_of
from visattn.errors import ConfigError


def command(
    model: ModelArgument,
    weights: Weights = "pretrained",
    image_size: ImageSize = None,
    device: Device = "auto",
    image: Annotated[
        list[Path] | None,
        typer.Option(help="Photo on which artefact tokens and gates are counted."),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of such photos.")] = None,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Replace each gate by its mean: one pass per gate.")
    ] = False,
) -> None:
    """Show a model's layers, tokens, gates and applicable methods, and prove the capture."""
    if image and images:
        raise ConfigError("--image and --images: give photos or a folder, not both.")
    from visattn.inspection import inspect_model
    from visattn.models import load_model

    loaded = load_model(
        model, weights=weights_of(weights), image_size=size_of(image_size), device=device
    )
    typer.echo(str(inspect_model(loaded, images=images or image or None, ablate=ablate)))
