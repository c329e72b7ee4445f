"""The ending of an evaluation: what is said when it is over."""

from __future__ import annotations

from visattn.evaluation.datasets.photo import UNREADABLE
from visattn.evaluation.result import NO_NUMBER, UNFIT
from visattn.evaluation.scorecard import Scorecard

FAILED = ("no map:", NO_NUMBER, UNFIT)  # of reasons why maps are left out, those that are failures


def ending(card: Scorecard) -> tuple[list[str], bool]:
    """Return what to print at the end of a run, and whether everything asked for was measured.

    Controls were not asked for: where one of them does not apply nothing is missing.
    """
    lines = [f"{card.samples} samples"]
    lines += [f"left out: {count} {reason}" for reason, count in card.excluded.items()]
    refused: dict[tuple[str, str], list[str]] = {}
    failed: dict[tuple[str, str], int] = {}
    for row in card.rows:
        if row.refused and not row.control:
            refused.setdefault((row.method, row.refused), []).append(row.metric)
        for reason, count in row.excluded.items():
            if row.control and reason == UNFIT:
                continue
            failed[row.method, reason] = max(count, failed.get((row.method, reason), 0))
    lines += [f"{m} does not apply ({', '.join(k)}): {why}" for (m, why), k in refused.items()]
    lines += [f"{m}: {count} maps left out: {why}" for (m, why), count in failed.items()]
    return lines, not (
        refused or any(why.startswith(FAILED) for _, why in failed) or UNREADABLE in card.excluded
    )
