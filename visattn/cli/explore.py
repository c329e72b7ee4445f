"""``visattn explore``: one image, one HTML file to click through."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from visattn.cli.options import (
    Device,
    ImageSize,
    ModelName,
    Weights,
    size_of,
    target_of,
    weights_of,
)
from visattn.errors import ConfigError

MAILED = 25  # MB, the limit of the large mail services


def command(
    image: Annotated[Path, typer.Argument(help="A photograph.")],
    model: ModelName,
    out: Annotated[Path, typer.Option("--out", "-o", help="The page (.html).")],
    layers: Annotated[
        str | None,
        typer.Option(help="Layers to embed: 11, -1, 0,5,11 or 6:12; all by default."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(help="A further class to list: index, label, or text:... where it fits."),
    ] = None,
    weights: Weights = "pretrained",
    image_size: ImageSize = None,
    device: Device = "auto",
) -> None:
    """Write one HTML file: click a patch of the photo and see where it looks."""
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--out {out.name}: an explorer is one HTML file; end it in .html.")
    chosen = layers_of(layers)
    from visattn.explorer import export
    from visattn.models import load_model

    loaded = load_model(
        model, weights=weights_of(weights), image_size=size_of(image_size), device=device
    )
    written = export(loaded, str(image), out, layers=chosen, target=target_of(target))
    size = written.stat().st_size / 1e6
    if size > MAILED:
        typer.echo(
            f"note: {size:.0f} MB are more than many mail servers take ({MAILED} MB); --layers "
            "embeds fewer layers, --image-size makes fewer tokens",
            err=True,
        )
    typer.echo(str(out))


def layers_of(text: str | None) -> Any:
    """Return the ``layers`` argument of `visattn.explorer.export` from ``0,5,-1`` or ``6:12``."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(":")]
    if len(parts) == 2 and all(re.fullmatch(r"(-?\d+)?", part) for part in parts):
        return slice(*(int(part) if part else None for part in parts))
    numbers = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"-?\d+", part) for part in numbers):
        raise ConfigError(f"--layers {text!r} is none of 11, -1, 0,5,11 and 6:12.")
    return [int(part) for part in numbers]
