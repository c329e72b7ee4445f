"""Options that several commands share."""

from __future__ import annotations

import ast
from typing import Annotated, Any

import typer

from visattn.errors import ConfigError

ModelName = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="timm name, or packaged:dinov2_small, packaged:efficientnet_lite0. "
        "'visattn models' lists them.",
    ),
]
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="As for --model: a timm name or packaged:NAME.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Weights = Annotated[
    str,
    typer.Option(help="pretrained, random, or the path of a checkpoint (.safetensors, .pth)."),
]
ImageSize = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Input size: 448, or 384x512 (height x width)."),
]


def weights_of(text: str) -> str | None:
    """Return the ``weights`` argument of `load_model`; ``random`` is None."""
    return None if text == "random" else text


def size_of(text: str | None) -> int | tuple[int, int] | None:
    """Return the ``image_size`` argument of `load_model` from ``448`` or ``384x512``."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.strip().isdigit() for part in parts):
        raise ConfigError(f"--image-size {text!r} is neither 448 nor 384x512 (height x width).")
    numbers = [int(part) for part in parts]
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1])


def target_of(text: str | None) -> Any:
    """Return a target: an index for digits, else the text (a label, top1, embedding)."""
    return int(text) if text is not None and text.isdigit() else text


def options_of(pairs: list[str]) -> dict[str, Any]:
    """Return method or style options from ``name=value``; values are Python literals or text."""
    options = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise ConfigError(f"Option {pair!r} is not of the form name=value.")
        try:
            options[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[name] = value
    return options
