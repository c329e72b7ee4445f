"""The plan: which maps a run must make, and which earlier entries stay."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from visattn.errors import ConfigError, ImageError
from visattn.gallery.config import GalleryConfig, MethodConfig, ModelConfig
from visattn.gallery.frames import FILMS, is_clip
from visattn.gallery.manifest import FAILED, OK, Entry, Key
from visattn.gallery.store import Store
from visattn.images import SUFFIXES, find_images


@dataclass(frozen=True)
class Batch:
    """Photos that go through a model together, for the same methods, or one clip alone."""

    images: tuple[str, ...]
    methods: tuple[MethodConfig, ...]
    clip: bool = False


@dataclass(frozen=True)
class Plan:
    """The work of one run.

    Attributes:
        images: every photo of the run, relative to the input, in order.
        keys: every map of the run: by model, then photo, then method.
        kept: earlier entries that stay, those of other photos and models among them.
        batches: what is left to do, per model in the config's order.
    """

    images: tuple[str, ...]
    keys: tuple[Key, ...]
    kept: tuple[Entry, ...]
    batches: tuple[tuple[ModelConfig, tuple[Batch, ...]], ...]

    @property
    def size(self) -> int:
        """How many maps are left to make."""
        return sum(
            len(batch.images) * len(batch.methods) for _, each in self.batches for batch in each
        )


def find(config: GalleryConfig) -> tuple[str, ...]:
    """Return the photos of a run, relative to the input; those inside galleries do not count.

    Raises `ConfigError` when the input is no folder or holds no photo.
    """
    try:
        found = find_images(config.input, SUFFIXES | FILMS)
    except ImageError as error:
        raise ConfigError(str(error)) from error
    galleries = _galleries(config, found)
    names = [
        path.relative_to(config.input).as_posix()
        for path in found
        if not galleries & set(path.parents)
    ]
    if not names:
        kinds = ", ".join(sorted(SUFFIXES | FILMS))
        raise ConfigError(f"There is no photo in {config.input} (files ending in {kinds}).")
    return tuple(names[: config.limit])


def _galleries(config: GalleryConfig, found: Iterable[Path]) -> set[Path]:
    """Return the folders below the input that are galleries: this run's, and finished ones."""
    out = config.out.resolve()
    above = {folder for path in found for folder in path.parents if config.input in folder.parents}
    return {
        folder
        for folder in above
        if folder.resolve() == out
        or ((folder / "run.json").is_file() and (folder / "manifest.jsonl").is_file())
    }


def make_plan(config: GalleryConfig, store: Store, entries: Sequence[Entry]) -> Plan:
    """Return what is left to do when ``entries`` are already there."""
    images = find(config)
    keys = tuple(
        (image, model.name, method.name)
        for model in config.models
        for image in images
        for method in config.methods_of(model)
    )
    planned = set(keys)
    kept = tuple(entry for entry in entries if _stays(entry, config, store, planned))
    done = {entry.key for entry in kept}
    batches = tuple(
        (model, tuple(_batches(config, model, images, done))) for model in config.models
    )
    left = tuple((model, each) for model, each in batches if each)
    return Plan(images, keys, kept, left)


def _stays(entry: Entry, config: GalleryConfig, store: Store, planned: set[Key]) -> bool:
    source = config.input / entry.image
    if entry.status == FAILED:
        return entry.key not in planned and source.exists()
    if entry.status == OK and not store.complete(entry):
        return False
    return not (source.exists() and _changed(source, entry, store))


def _changed(source: Path, entry: Entry, store: Store) -> bool:
    """Return whether the photo is another one than when the entry was made.

    Its bytes are read only when the file was touched after the gallery's copy was written.
    """
    copy = store.root / (entry.map or store.photo(entry.image))
    stat = source.stat()
    touched = max(stat.st_mtime_ns, stat.st_ctime_ns)
    if copy.exists() and touched < copy.stat().st_mtime_ns:
        return False
    return entry.sha256 != sha256(source)


def sha256(path: Path) -> str | None:
    """Return the hash of a file's bytes, or None where it cannot be read."""
    try:
        with path.open("rb") as file:
            digest = hashlib.sha256()
            while block := file.read(1 << 20):
                digest.update(block)
            return digest.hexdigest()
    except OSError:
        return None


def _batches(
    config: GalleryConfig, model: ModelConfig, images: Iterable[str], done: set[Key]
) -> Iterator[Batch]:
    groups: dict[tuple[str, ...], list[str]] = {}
    methods = {method.name: method for method in config.methods_of(model)}
    for image in images:
        left = tuple(name for name in methods if (image, model.name, name) not in done)
        if left:
            groups.setdefault(left, []).append(image)
    clips = {name for each in groups.values() for name in each if is_clip(config.input / name)}
    for names, members in groups.items():
        photos = [name for name in members if name not in clips]
        for start in range(0, len(photos), config.batch_size):
            chunk = tuple(photos[start : start + config.batch_size])
            yield Batch(chunk, tuple(methods[name] for name in names))
    for names, members in groups.items():
        for clip in (name for name in members if name in clips):
            yield Batch((clip,), tuple(methods[name] for name in names), clip=True)
