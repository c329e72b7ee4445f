"""Progress of long work: whoever waits says where it is to be reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Report = Callable[[str, int, int], None]
LONG = 100
_REPORT: ContextVar[Report | None] = ContextVar("visattn_report", default=None)


@contextmanager
def reporting(report: Report | None) -> Iterator[None]:
    """Send the progress of what runs inside to ``report(work, done, total)``; None is silence.

    The first call of a piece of work has ``done`` = 0 and comes before it starts, so that
    ``total`` is an estimate of what is to come.
    """
    token = _REPORT.set(report)
    try:
        yield
    finally:
        _REPORT.reset(token)


def progress(work: str, done: int, total: int) -> None:
    """Report that ``done`` of ``total`` passes of ``work`` are over.

    Forward passes are counted, one for each input; a backward pass belongs to its forward pass.
    """
    report = _REPORT.get()
    if report is not None:
        report(work, done, total)


def estimate(work: str, total: int) -> str | None:
    """Return what to say before long work starts, or None for less than `LONG` passes."""
    return f"{work}: {total} forward passes" if total >= LONG else None
