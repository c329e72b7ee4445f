"""``visattn methods``: the table of methods."""

from __future__ import annotations

import typer


def command() -> None:
    """List the methods: what they cost, whether they explain a class, and their paper."""
    from visattn.methods import get_method, list_methods

    typer.echo(f"{'method':<22}{'explains':<10}{'reads':<13}{'cost':<34}paper")
    for name in list_methods():
        kind = get_method(name)
        explains = "a target" if kind.class_specific else "the model"
        reads = "attention" if kind.attention else "activations" if kind.gradients else "-"
        typer.echo(f"{name:<22}{explains:<10}{reads:<13}{kind.cost:<34}{kind.paper or 'control'}")
