"""Progress of long work, on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from visattn.progress import Report, estimate


@contextmanager
def shown() -> Iterator[Report]:
    """Yield a report that says how long work will be before it starts, and draws a bar.

    The bar is drawn on terminals only, and is gone in the end; the estimate is one line, for work
    that `estimate` calls long.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    announced = set()

    def report(work: str, done: int, total: int) -> None:
        line = estimate(work, total)
        if line and line not in announced:
            console.print(line, markup=False, highlight=False, soft_wrap=True)
            announced.add(line)
        if done == 0 or not bar.tasks:
            bar.add_task(work, total=total)
        bar.update(bar.tasks[-1].id, completed=done)

    with bar:
        yield report
