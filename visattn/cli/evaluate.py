"""``visattn evaluate``: do the maps tell the truth? A scorecard with intervals and controls."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from visattn.cli.options import size_of

Source = Annotated[
    str | None,
    typer.Argument(
        metavar="DATASET",
        help="planted, mosaics:FOLDER, masks:FOLDER, coco:FILE, voc:FOLDER, "
        "imagenet_segmentation:FILE, or a folder of photos; options follow as ?key=value,...",
    ),
]
ModelText = Annotated[str | None, typer.Option("--model", "-m", help="As for 'visattn explain'.")]
Methods = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help="A name of 'visattn methods', auto, or all that apply; options as in "
        "gae:start_layer=3. May be repeated. Controls are always added.",
    ),
]
Metrics = Annotated[
    list[str] | None,
    typer.Option(
        "--metric",
        "-k",
        help="A metric; options as in deletion:score=logit. May be repeated. --list names them.",
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="OUT_DIR", help="Folder of the report.")
]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="YAML file such as configs/evaluation.yaml."),
]
WeightsText = Annotated[
    str | None,
    typer.Option(help="pretrained, random, or the path of a checkpoint (.safetensors, .pth)."),
]
Side = Annotated[str | None, typer.Option(metavar="SIZE", help="Input size: 448 or 384x512.")]
DeviceName = Annotated[str | None, typer.Option(help="auto, cpu, cuda, ...; default auto.")]
Limit = Annotated[int | None, typer.Option(help="Only the first N samples.")]
BatchSize = Annotated[int | None, typer.Option(help="Inputs in one forward pass; default 32.")]
Seed = Annotated[int | None, typer.Option(help="Of the bootstrap and of random weights.")]
Listing = Annotated[bool, typer.Option("--list", help="List metrics and data sets, and exit.")]


def command(
    dataset: Source = None,
    model: ModelText = None,
    method: Methods = None,
    metric: Metrics = None,
    out: Out = None,
    config: Config = None,
    weights: WeightsText = None,
    image_size: Side = None,
    device: DeviceName = None,
    limit: Limit = None,
    batch_size: BatchSize = None,
    seed: Seed = None,
    listing: Listing = False,
) -> None:
    """Measure methods on a data set, next to controls, and write a scorecard to OUT_DIR.

    A second run goes on where the first one stopped. Exit codes: 0 all done; 1 finished, but a
    method or metric does not apply, or maps failed; 2 the command or its config is wrong.
    """
    if listing:
        _list()
        raise typer.Exit
    from visattn.evaluation.config import resolve_config
    from visattn.evaluation.folder import evaluate_to

    flags = {
        "dataset": dataset,
        "model": model,
        "methods": method,
        "metrics": metric,
        "out": out,
        "weights": weights,
        "image_size": size_of(image_size),
        "device": device,
        "limit": limit,
        "batch_size": batch_size,
        "seed": seed,
    }
    resolved = resolve_config(config, flags)
    try:
        card = evaluate_to(resolved, progress=_progress, command=sys.argv[1:])
    except KeyboardInterrupt:
        typer.echo("\ninterrupted: run again to continue", err=True)
        raise typer.Exit(130) from None
    from visattn.evaluation.ending import ending

    lines, whole = ending(card)
    typer.echo("\r", nl=False, err=True)
    for line in lines:
        typer.echo(line)
    typer.echo(resolved.out / "scorecard.md")
    raise typer.Exit(0 if whole else 1)


def _progress(samples: int, values: int) -> None:
    if sys.stderr.isatty():
        typer.echo(f"\r{samples} samples, {values} values", nl=False, err=True)


def _list() -> None:
    from visattn.evaluation.datasets import DATASETS, list_datasets
    from visattn.evaluation.metrics import METRICS, list_metrics

    typer.echo("metrics")
    for name in list_metrics():
        kind = METRICS.get(name)
        needs = f"; needs {', '.join(kind.needs)}" if kind.needs else ""
        typer.echo(f"  {name:<24}{kind.formula} ({kind.better} is better{needs})")
    typer.echo("data sets")
    for name in list_datasets():
        kind_of = DATASETS.get(name)
        has = ", ".join(kind_of.truths) or "images alone"
        first = (kind_of.__doc__ or "").strip().splitlines()[0]
        typer.echo(f"  {name:<24}{first} ({has})")
