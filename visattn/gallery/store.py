"""The store: where the files of a gallery lie, and what may be done to a folder.

::

    OUT_DIR/
      index.html  run.json  manifest.jsonl
      maps/IMAGE/MODEL.METHOD.npz       grid and geometry
      overlays/IMAGE/MODEL.METHOD.png   annotated picture
      heat/IMAGE/MODEL.METHOD.png       the heat layer alone, for the page
      photos/IMAGE/{photo,thumbnail}.jpg
      sheets/IMAGE/MODEL.{layers,heads,heads.layerN}.png   contact sheets that were asked for

Of a clip the maps of all frames lie in one ``.npz``, and instead of the two pictures there are::

      overlays/CLIP/MODEL.METHOD.mp4    annotated film
      overlays/CLIP/MODEL.METHOD.webp   the film without its strips, at most 640 pixels
      tiles/CLIP/MODEL.METHOD.webp      the same at most 320 pixels, for the page

IMAGE is the path of the photo in the input folder with its suffix, as a folder: the tree of the
input is kept, and ``cat.jpg`` and ``cat.png`` never meet.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from visattn.atomic import PREFIX
from visattn.errors import ConfigError, VisattnError
from visattn.gallery.manifest import Entry, Key, Manifest
from visattn.gallery.slug import slug

FOLDERS = ("maps", "overlays", "heat", "tiles", "photos", "sheets")

SHEETS = LAYERS, HEADS = ("layers", "heads")


class UnfinishedError(VisattnError):
    """The disk refused a file in the middle of a run; a second run continues."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into a `ConfigError` that names ``path``."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"{path} cannot be written ({reason}); give another --out.") from error


class Store:
    """The paths of one gallery; relative ones are strings with ``/``, as in the manifest."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.index = root / "index.html"
        self.run = root / "run.json"
        self.manifest = Manifest(root / "manifest.jsonl")

    def map(self, key: Key) -> str:
        """Return the relative path of a map."""
        return _under("maps", key, "npz")

    def overlay(self, key: Key) -> str:
        """Return the relative path of an annotated picture."""
        return _under("overlays", key, "png")

    def heat(self, key: Key) -> str:
        """Return the relative path of a heat layer."""
        return _under("heat", key, "png")

    def film(self, key: Key) -> str:
        """Return the relative path of a clip's film."""
        return _under("overlays", key, "mp4")

    def preview(self, key: Key) -> str:
        """Return the relative path of a clip's animated picture."""
        return _under("overlays", key, "webp")

    def tile(self, key: Key) -> str:
        """Return the relative path of a clip's small animated picture."""
        return _under("tiles", key, "webp")

    def files(self, entry: Entry) -> list[str]:
        """Return the relative paths of what is drawn and stored for an entry with a map."""
        if entry.frames is None:
            return [self.map(entry.key), self.overlay(entry.key), self.heat(entry.key)]
        drawn = entry.overlay or self.film(entry.key)
        return [self.map(entry.key), drawn, self.preview(entry.key), self.tile(entry.key)]

    def photo(self, image: str) -> str:
        """Return the relative path of the display copy of a photo."""
        return f"photos/{image}/photo.jpg"

    def thumbnail(self, image: str) -> str:
        """Return the relative path of the small copy of a photo."""
        return f"photos/{image}/thumbnail.jpg"

    def sheet(self, image: str, model: str, kind: str, layer: str | None = None) -> str:
        """Return the relative path of the contact sheet of a photo's layers or heads.

        ``layer`` is the one whose heads it shows, None for all.
        """
        part = "" if layer is None else f".layer{layer.replace(':', '_')}"
        return f"sheets/{image}/{slug(model)}.{kind}{part}.png"

    def sheets(self, image: str, model: str) -> list[str]:
        """Return the relative paths of the contact sheets of a photo that are there."""
        name = glob.escape(slug(model))
        found = [
            path
            for kind in SHEETS
            for pattern in (f"{name}.{kind}.png", f"{name}.{kind}.layer*.png")
            for path in (self.root / "sheets" / image).glob(pattern)
        ]
        return [path.relative_to(self.root).as_posix() for path in found]

    def exists(self) -> bool:
        """Return whether the folder holds a gallery.

        Raises `ConfigError` when it holds something else, which visattn never touches.
        """
        if self.run.is_file():
            return True
        foreign = self.root.is_dir() and [
            path.name for path in self.root.iterdir() if not path.name.startswith(PREFIX)
        ]
        if foreign:
            raise ConfigError(
                f"{self.root} is not empty and not a gallery (there is no run.json, but "
                f"{min(foreign)!r}). Nothing was touched; give another --out."
            )
        return False

    def complete(self, entry: Entry) -> bool:
        """Return whether every file that an entry stands for is there."""
        shown = (self.photo(entry.image), self.thumbnail(entry.image))
        return all((self.root / name).is_file() for name in (*self.files(entry), *shown))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second run out of the folder; the lock goes with the process, killed or not.

        The folder is made for it, and goes again when nothing was written into it. Raises
        `ConfigError` while another run holds it, and where it cannot be made.
        """
        if self.root.exists() and not self.root.is_dir():
            raise ConfigError(f"{self.root} cannot be written (a file; --out names a folder).")
        made = [path for path in (self.root, *self.root.parents) if not path.exists()]
        try:
            with writing(self.root):
                self.root.mkdir(parents=True, exist_ok=True)
                handle = _lock(self.root)
            try:
                yield
            finally:
                if handle is not None:
                    os.close(handle)
        finally:
            _remove_empty(made)

    def remove_leftovers(self) -> None:
        """Remove the half-written files of a killed run."""
        places = [self.root.glob(f"{PREFIX}*")]
        places += [(self.root / name).rglob(f"{PREFIX}*") for name in FOLDERS]
        for found in places:
            for path in list(found):
                path.unlink(missing_ok=True)

    def clear(self, entries: Iterable[Entry], kept: Iterable[Entry] = ()) -> None:
        """Remove the files of ``entries``, the manifest and the page; nothing else is touched.

        The display copies of photos that ``kept`` entries show stay.
        """
        shown = {entry.image for entry in kept}
        for entry in entries:
            names = self.files(entry)
            if entry.image not in shown:
                names += [self.photo(entry.image), self.thumbnail(entry.image)]
            names += self.sheets(entry.image, entry.model)
            for name in names:
                (self.root / name).unlink(missing_ok=True)
        for path in (self.manifest.path, self.index):
            path.unlink(missing_ok=True)
        for name in FOLDERS:
            _prune(self.root / name)


def _lock(folder: Path) -> int | None:
    try:
        import fcntl
    except ImportError:  # Windows has no advisory locks on folders
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise ConfigError(f"Another run is writing to {folder}; wait until it ends.") from error
    return handle


def _remove_empty(folders: Iterable[Path]) -> None:
    for path in folders:
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()


def _under(folder: str, key: Key, suffix: str) -> str:
    image, model, method = key
    return f"{folder}/{image}/{slug(model)}.{slug(method)}.{suffix}"


def _prune(folder: Path) -> None:
    """Remove the empty folders below and including ``folder``."""
    for path, _, _ in os.walk(folder, topdown=False):
        if not os.listdir(path):  # noqa: PTH208 - os.walk hands out strings
            Path(path).rmdir()
