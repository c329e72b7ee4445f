"""``visattn models``: names that can be loaded."""

from __future__ import annotations

from typing import Annotated

import typer

from visattn.errors import ConfigError


def command(
    pattern: Annotated[str, typer.Argument(help="Shell pattern, for example '*dinov2*'.")] = "*",
) -> None:
    """List the models that can be loaded."""
    from visattn.models import list_models

    names = list_models(pattern)
    if not names:
        raise ConfigError(f"No model matches {pattern!r}; try '*{pattern.strip('*')}*'.")
    for name in names:
        typer.echo(name)
