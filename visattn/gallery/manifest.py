"""The manifest: one line per (image, model, method), written when its files are in place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from visattn.atomic import appending, write_text
from visattn.errors import ConfigError

OK, FAILED, UNSUPPORTED = STATUSES = ("ok", "failed", "unsupported")
STATISTICS = ("entropy", "gini", "top5_mass", "prefix_mass", "outlier_tokens")

OF_CLIPS = ("frames", "fps", "preview")

Key = tuple[str, str, str]


def no_statistics() -> dict[str, Any]:
    """Return the statistics of an entry without a map: every name, no values."""
    return dict.fromkeys(STATISTICS)


@dataclass(frozen=True)
class Entry:
    """One line of the manifest.

    Attributes:
        image: path of the photo relative to the input folder, with ``/``.
        sha256: hash of the photo's file, or None where it could not be read.
        model: spec of the model, as in the config.
        method: name of the method.
        status: ``ok``, ``failed`` or ``unsupported``.
        error: why there is no map.
        map: path of the ``.npz`` relative to the gallery.
        overlay: path of the picture relative to the gallery.
        height: of the upright photo in pixels.
        width: of the upright photo in pixels.
        grid: rows and columns of the map.
        target_index: explained class; None for class-agnostic maps and scores without a class.
        target_label: its name.
        probability: of the target, 0 to 1.
        statistics: numbers about the map; at least `STATISTICS`.
        warnings: what a reader of the map must know.
        seconds: the map's share of its batch's computation, plus its drawing.
        frames: number of frames of a clip; None for a photo, as are the next two.
        fps: its frames per second.
        preview: path of its animated picture relative to the gallery.
    """

    image: str
    sha256: str | None
    model: str
    method: str
    status: str
    error: str | None = None
    map: str | None = None
    overlay: str | None = None
    height: int | None = None
    width: int | None = None
    grid: tuple[int, int] | None = None
    target_index: int | None = None
    target_label: str | None = None
    probability: float | None = None
    statistics: Mapping[str, Any] = field(default_factory=no_statistics)
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    frames: int | None = None
    fps: float | None = None
    preview: str | None = None

    @property
    def key(self) -> Key:
        """What an entry is unique by: image, model and method."""
        return self.image, self.model, self.method

    def line(self) -> str:
        """Return the entry as one line of JSON, with its newline; photos have no keys of clips."""
        stored = asdict(self)
        if self.frames is None:
            stored = {name: value for name, value in stored.items() if name not in OF_CLIPS}
        return json.dumps(stored, allow_nan=False) + "\n"

    @classmethod
    def parse(cls, line: str) -> Entry:
        """Read a line; raises ValueError or TypeError when it is not one."""
        stored = json.loads(line)
        names = {each.name for each in fields(cls)}
        values = {name: value for name, value in stored.items() if name in names}
        grid = values.get("grid")
        values["grid"] = tuple(grid) if grid else None
        values["warnings"] = tuple(values.get("warnings") or ())
        return cls(**values)


class Manifest:
    """The entries of one gallery on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, lenient: bool = False) -> list[Entry]:
        """Return the entries in the order of the file.

        A last line without its newline was torn by a kill and does not count; of two lines with
        one key the later counts. Raises `ConfigError` for any other line that is no entry;
        ``lenient`` leaves such lines out, for a gallery that is to be removed.
        """
        if not self.path.exists():
            return []
        *lines, _torn = self.path.read_bytes().split(b"\n")
        entries: dict[Key, Entry] = {}
        for number, line in enumerate(lines, start=1):
            try:
                entry = Entry.parse(line.decode("utf-8"))
            except (ValueError, TypeError, AttributeError) as error:
                if lenient:
                    continue
                raise ConfigError(
                    f"{self.path}, line {number} is not a manifest entry ({error}). Remove the "
                    "line, and its map is computed again; or begin anew with --overwrite."
                ) from error
            entries[entry.key] = entry
        return list(entries.values())

    def rewrite(self, entries: Iterable[Entry]) -> None:
        """Replace the whole file at once."""
        write_text(self.path, "".join(entry.line() for entry in entries))

    @contextmanager
    def opened(self) -> Iterator[Callable[[Entry], None]]:
        """Yield a function that adds one entry and returns when it is on disk.

        Where the disk is full it raises OSError and leaves no part of the line behind.
        """
        with appending(self.path) as append:
            yield lambda entry: append(entry.line())
