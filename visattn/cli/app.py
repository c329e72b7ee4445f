"""The ``visattn`` command: finds its commands by walking this folder."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable

import typer

import visattn.cli
from visattn.errors import VisattnError

NOT_COMMANDS = (
    "app", "export_attention", "figure_axes", "figure_config", "figure_stored", "figure_values",
    "options", "progress",
)  # fmt: skip


def build() -> typer.Typer:
    """Return the application with one command per file of this folder."""
    app = typer.Typer(
        help="Shows where a vision model looks: attention maps, proven and laid on the photos.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for module in pkgutil.iter_modules(visattn.cli.__path__):
        if module.name not in NOT_COMMANDS:
            command = importlib.import_module(f"visattn.cli.{module.name}").command
            app.command(name=module.name)(command)
    app.callback()(_root)
    return app


def main() -> None:
    """Run the command line; an error of ours is one line on stderr and exit code 2."""
    _run(build())


def run(command: Callable[..., None], description: str | None) -> None:
    """Run one command as a program of its own, with ``description`` in its help."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    # A backspace keeps the lines of a paragraph as they are: those of an example.
    parts = (description or "").strip().split("\n\n")
    text = "\n\n".join(f"\b\n{part}" if part.startswith("    ") else part for part in parts)
    app.command(help=text, context_settings={"help_option_names": ["-h", "--help"]})(command)
    _run(app)


def _run(app: typer.Typer) -> None:
    try:
        app()
    except VisattnError as error:
        sys.stderr.write(f"visattn: {error}\n")
        sys.exit(2)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"visattn {visattn.__version__}")
        raise typer.Exit


def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and exit."
    ),
) -> None:
    del version
