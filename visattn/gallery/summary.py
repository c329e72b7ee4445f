"""Summary: how a gallery run ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from visattn.gallery.manifest import FAILED, OK, UNSUPPORTED, Entry


@dataclass(frozen=True)
class Summary:
    """How many maps of a run's photos, models and methods are there, and where to look.

    Attributes:
        ok: maps in the gallery.
        failed: maps that could not be made.
        unsupported: maps whose method does not apply to the model.
        kept: how many of all these an earlier run had finished.
        index: the page to open.
        failures: the number of photos behind each different failure.
        gone: photos with maps that are no longer in the folder.
    """

    ok: int
    failed: int
    unsupported: int
    kept: int
    index: Path
    failures: Mapping[str, int] = field(default_factory=dict)
    gone: int = 0

    @classmethod
    def of(cls, entries: Iterable[Entry], kept: int, index: Path, gone: int = 0) -> Summary:
        """Count the entries of a run."""
        entries = list(entries)
        count = Counter(entry.status for entry in entries)
        photos: dict[str, set[str]] = {}
        for entry in entries:
            if entry.status == FAILED:
                photos.setdefault(str(entry.error), set()).add(entry.image)
        failures = {error: len(images) for error, images in photos.items()}
        return cls(count[OK], count[FAILED], count[UNSUPPORTED], kept, index, failures, gone)

    @property
    def errors(self) -> tuple[str, ...]:
        """The messages of the failures, each once."""
        return tuple(self.failures)

    @property
    def exit_code(self) -> int:
        """0 when nothing failed, else 1."""
        return 1 if self.failed else 0

    def failure_lines(self) -> list[str]:
        """Return one line per different failure, with its number of photos."""
        return [
            f"failed ({_count(photos, 'photo')}): {' '.join(error.split())}"
            for error, photos in self.failures.items()
        ]

    def lines(self) -> list[str]:
        """Return what a run ends with: the counts, photos that are gone, and the page."""
        verb, whose = ("is", "its") if self.gone == 1 else ("are", "their")
        photos = _count(self.gone, "photo")
        gone = f"{photos} {verb} no longer in the folder; {whose} maps are kept"
        return [str(self), *([gone] if self.gone else []), str(self.index.resolve())]

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
