"""Progress on a terminal: maps done, photos per second, failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from visattn.gallery.manifest import FAILED, Entry
from visattn.progress import estimate


class Meter:
    """A progress bar over maps; silent where it is switched off or nobody is looking.

    Only methods with many passes are announced, by one line, where nobody is looking too.
    """

    def __init__(self, maps: int, photos: int, shown: bool) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("maps  {task.fields[rate]} photos/s  {task.fields[failures]}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[work]}"),
            console=console,
            disable=not (shown and console.is_terminal),
        )
        self._photos_per_map = photos / max(1, maps)
        self._failures = 0
        self._announces = shown
        self._announced: set[str] = set()
        self._task = self._progress.add_task("starting", total=maps, rate="-", failures="", work="")

    def model(self, name: str) -> None:
        """Say which model is at work."""
        self._progress.update(self._task, description=name)
        self._announced.clear()

    def passes(self, work: str, done: int, total: int) -> None:
        """Show the passes of a method with many; the first time, say how many before they start."""
        line = estimate(work, total)
        if self._announces and line and work not in self._announced:
            text = f"{line} for the first batch of photos"
            self._progress.console.print(text, markup=False, highlight=False, soft_wrap=True)
            self._announced.add(work)
        self._progress.update(self._task, work=f"{work} {done}/{total}" if done < total else "")

    def frames(self, words: str) -> None:
        """Show how far a clip is; no words where it is done."""
        self._progress.update(self._task, work=escape(words))

    def count(self, entry: Entry) -> None:
        """Count one finished map."""
        self._failures += entry.status == FAILED
        speed = self._progress.tasks[0].speed
        rate = f"{speed * self._photos_per_map:.1f}" if speed else "-"
        failures = f"[red]{self._failures} failed[/red]" if self._failures else ""
        self._progress.update(self._task, advance=1, rate=rate, failures=failures)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Show the bar while the block runs."""
        with self._progress:
            yield
