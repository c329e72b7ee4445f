"""A run on disk: the config of an evaluation becomes a folder with results and a report."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from visattn.atomic import PREFIX, write_text
from visattn.errors import ConfigError
from visattn.evaluation.config import EvaluationConfig
from visattn.evaluation.report import write_report
from visattn.evaluation.run import Report, evaluate
from visattn.evaluation.scorecard import Scorecard
from visattn.models import load_model

RESULTS, RUN = "results.jsonl", "run.json"


def evaluate_to(
    config: EvaluationConfig, *, progress: Report | None = None, command: Sequence[str] = ()
) -> Scorecard:
    """Run an evaluation, or go on with one, and write its report; return the scorecard.

    ::

        OUT_DIR/
          results.jsonl                          one line for each sample, method and metric
          run.json                               config, command, versions, model facts, time
          scorecard.json .csv .md .tex           tables
          scorecard.pdf .png                     the figure

    Results of other methods, metrics or models in the same folder stay and are not shown. Raises
    `ConfigError`, with nothing written, where the folder holds something else.
    """
    _require_ours(config.out)
    start = time.perf_counter()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = load_model(
            config.model,
            weights=None if config.weights == "random" else config.weights,
            image_size=config.image_size,
            device=config.device,
        )
    card = evaluate(
        model,
        config.dataset,
        config.methods,
        config.metrics,
        results=config.out / RESULTS,
        limit=config.limit,
        batch_size=config.batch_size,
        seed=config.seed,
        progress=progress,
    )
    write_report(card, config.out)
    run = _record(config, card, time.perf_counter() - start, command)
    write_text(config.out / RUN, json.dumps(run, indent=2) + "\n")
    return card


def _require_ours(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file, not a folder: give another --out.")
    if folder.is_dir() and not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder} cannot be written (Permission denied): give another --out.")
    known = [folder / name for name in (RESULTS, RUN)]
    if not folder.is_dir() or any(path.exists() for path in known):
        return
    foreign = [path.name for path in folder.iterdir() if not path.name.startswith(PREFIX)]
    if foreign:
        raise ConfigError(
            f"{folder} is not empty and not an evaluation (there is no {RESULTS}, but "
            f"{min(foreign)!r}). Nothing was touched; give another --out."
        )


def _record(
    config: EvaluationConfig, card: Scorecard, seconds: float, command: Sequence[str]
) -> dict[str, Any]:
    return {
        "config": config.model_dump(mode="json"),
        "command": list(command),
        "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        **card.facts,
        "samples": card.samples,
        "excluded_samples": dict(card.excluded),
    }
