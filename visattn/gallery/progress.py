"""Progress on a terminal: maps done, photos per second, failures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from visattn.gallery.manifest import FAILED, Entry


class Meter:
    """A progress bar over maps; silent where it is switched off or nobody is looking."""

    def __init__(self, maps: int, photos: int, shown: bool) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("maps  {task.fields[rate]} photos/s  {task.fields[failures]}"),
            TimeRemainingColumn(),
            console=console,
            disable=not (shown and console.is_terminal),
        )
        self._photos_per_map = photos / max(1, maps)
        self._failures = 0
        self._task = self._progress.add_task("starting", total=maps, rate="-", failures="")

    def model(self, name: str) -> None:
        """Say which model is at work."""
        self._progress.update(self._task, description=name)

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
