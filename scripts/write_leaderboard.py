"""Run the evaluations in configs/leaderboard and write docs/leaderboard.md from them.

What out/leaderboard holds already is not measured again. `make leaderboard` runs it.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import torch
from marked import replaced

from visattn.evaluation import Scorecard, evaluate_to
from visattn.evaluation.config import EvaluationConfig, resolve_config
from visattn.evaluation.markdown import overview, spent

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs" / "leaderboard"
PAGE = ROOT / "docs" / "leaderboard.md"
NAMES = tuple(sorted(path.stem for path in CONFIGS.glob("*.yaml")))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", choices=NAMES, action="append", help="only these, else all")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.name or NAMES:
        config = resolve_config(CONFIGS / f"{name}.yaml", {})
        card = evaluate_to(config, progress=told, command=sys.argv)
        page = PAGE.read_text(encoding="utf-8")
        PAGE.write_text(replaced(page, f"table of {name}", section(name, config, card)), "utf-8")
        tables = ROOT / "docs" / "leaderboard"
        tables.mkdir(exist_ok=True)
        shutil.copy(config.out / "scorecard.csv", tables / f"{name}.csv")
        print(f"{name}: {spent(card)}", flush=True)
    return 0


def section(name: str, config: EvaluationConfig, card: Scorecard) -> str:
    """Return the table of one evaluation, with what it was and what it took."""
    left = ", ".join(f"{count} {reason}" for reason, count in card.excluded.items()) or "none"
    return "\n".join(
        [
            (
                f"`visattn evaluate --config configs/leaderboard/{name}.yaml`: {config.model} on "
                f"`{config.dataset}`, {card.samples} samples, seed {config.seed}. Left out: {left}."
            ),
            (
                f"{spent(card)}, on one thread. Every number: "
                f"[leaderboard/{name}.csv](leaderboard/{name}.csv)."
            ),
            "",
            overview(card),
        ]
    )


def told(samples: int, values: int) -> None:
    print(f"{samples} samples, {values} values", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
