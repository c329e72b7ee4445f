"""Summary: how a gallery run ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from visattn.gallery.manifest import FAILED, OK, UNSUPPORTED, Entry


@dataclass(frozen=True)
class Summary:
    """How many maps of a run's photos, models and methods are there, and where to look.

    Attributes:
        ok: maps in the gallery.
        failed: maps that could not be made.
        unsupported: methods that do not apply to a model.
        kept: how many of all these an earlier run had finished.
        index: the page to open.
        errors: one line per failure that is worth reading, each once.
    """

    ok: int
    failed: int
    unsupported: int
    kept: int
    index: Path
    errors: tuple[str, ...] = ()

    @classmethod
    def of(cls, entries: Iterable[Entry], kept: int, index: Path) -> Summary:
        """Count the entries of a run."""
        entries = list(entries)
        count = Counter(entry.status for entry in entries)
        errors = [str(entry.error) for entry in entries if entry.status == FAILED]
        unique = tuple(dict.fromkeys(errors))
        return cls(count[OK], count[FAILED], count[UNSUPPORTED], kept, index, unique)

    @property
    def exit_code(self) -> int:
        """0 when nothing failed, else 1."""
        return 1 if self.failed else 0

    def __str__(self) -> str:
        parts = [f"{self.ok} maps"]
        if self.failed:
            parts.append(f"{self.failed} failed")
        if self.unsupported:
            parts.append(f"{self.unsupported} that do not apply")
        earlier = f" ({self.kept} from an earlier run)" if self.kept else ""
        return ", ".join(parts) + earlier
