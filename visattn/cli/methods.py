"""``visattn methods``: the table of methods."""

from __future__ import annotations

import typer


def command() -> None:
    """List the methods: what they cost, whether they explain a class, and their paper."""
    from torch import nn

    from visattn.adapters import OpaqueAdapter
    from visattn.images import Size
    from visattn.methods import get_method, list_methods

    typer.echo(f"{'method':<26}{'needs':<26}{'explains':<11}{'applies to':<36}{'memory':<9}paper")
    size = Size(224, 224)
    for name in list_methods():
        kind = get_method(name)
        needs = kind().passes(OpaqueAdapter(nn.Module()), size)
        explains = "a target" if kind.class_specific else "the model"
        typer.echo(
            f"{name:<26}{needs!s:<26}{explains:<11}{kind.applies:<36}{kind.memory:<9}"
            f"{kind.paper or 'control'}"
        )
