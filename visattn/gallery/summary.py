"""Summary: how a gallery run ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from visattn.gallery.manifest import FAILED, OK, UNSUPPORTED, Entry


class Files(NamedTuple):
    """How many photos and clips."""

    photos: int = 0
    clips: int = 0

    @classmethod
    def of(cls, images: Iterable[str], clip: Callable[[str], bool]) -> Files:
        """Count images; ``clip`` tells which of them move."""
        moving = Counter(map(clip, images))
        return cls(moving[False], moving[True])

    def __str__(self) -> str:
        named = ((self.photos, "photo"), (self.clips, "clip"))
        return " and ".join(_count(number, noun) for number, noun in named if number)


NONE = Files()


@dataclass(frozen=True)
class Summary:
    """How many maps of a run's photos, models and methods are there, and where to look.

    Attributes:
        ok: maps in the gallery.
        failed: maps that could not be made.
        unsupported: maps whose method does not apply to the model.
        kept: how many of all these an earlier run had finished.
        index: the page to open.
        failures: the number of photos and clips behind each different failure.
        gone: the number of photos and clips with maps that are no longer in the folder.
    """

    ok: int
    failed: int
    unsupported: int
    kept: int
    index: Path
    failures: Mapping[str, Files] = field(default_factory=dict)
    gone: Files = NONE

    @classmethod
    def of(
        cls,
        entries: Iterable[Entry],
        kept: int,
        index: Path,
        gone: Iterable[str] = (),
        clip: Callable[[str], bool] = lambda _: False,
    ) -> Summary:
        """Count the entries of a run; ``clip`` tells which images move."""
        entries = list(entries)
        count = Counter(entry.status for entry in entries)
        images: dict[str, set[str]] = {}
        for entry in entries:
            if entry.status == FAILED:
                images.setdefault(str(entry.error), set()).add(entry.image)
        failures = {error: Files.of(each, clip) for error, each in images.items()}
        numbers = count[OK], count[FAILED], count[UNSUPPORTED]
        return cls(*numbers, kept, index, failures, Files.of(gone, clip))

    @property
    def errors(self) -> tuple[str, ...]:
        """The messages of the failures, each once."""
        return tuple(self.failures)

    @property
    def exit_code(self) -> int:
        """0 when nothing failed, else 1."""
        return 1 if self.failed else 0

    def failure_lines(self) -> list[str]:
        """Return one line per different failure, with its number of photos and clips."""
        return [
            f"failed ({files}): {' '.join(error.split())}" for error, files in self.failures.items()
        ]

    def lines(self) -> list[str]:
        """Return what a run ends with: the counts, files that are gone, and the page."""
        count = sum(self.gone)
        verb, whose = ("is", "its") if count == 1 else ("are", "their")
        gone = f"{self.gone} {verb} no longer in the folder; {whose} maps are kept"
        return [str(self), *([gone] if count else []), str(self.index.resolve())]

    def __str__(self) -> str:
        parts = [_count(self.ok, "map")]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.unsupported:
            verb = "does" if self.unsupported == 1 else "do"
            parts.append(f"{_count(self.unsupported, 'map')} {verb} not apply")
        earlier = f" ({self.kept} from an earlier run)" if self.kept else ""
        return ", ".join(parts) + earlier


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
