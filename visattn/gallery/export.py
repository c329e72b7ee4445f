"""Export: what leaves a stored gallery for other tools and for print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from visattn.errors import ConfigError, VisattnError
from visattn.gallery.coco import write_coco
from visattn.gallery.contact_sheet import SUFFIXES, write_sheet
from visattn.gallery.drawing import gallery_style
from visattn.gallery.manifest import Entry, Key
from visattn.gallery.record import read_record
from visattn.gallery.selection import named, tabled
from visattn.gallery.store import Store
from visattn.images import load_image
from visattn.saliency import SaliencyMap

SHARE = 0.5


class Exported(NamedTuple):
    """What was exported.

    Attributes:
        maps: maps of photos.
        masks: how many of them have a mask; 0 where none was asked for.
        clips: image, model and method of clips, which are left out.
        failures: by image, model and method, why a map could not be read and is left out.
    """

    maps: int
    masks: int
    clips: tuple[Key, ...]
    failures: Mapping[Key, str]


def export_gallery(
    out: Path,
    *,
    table: Path | None = None,
    models: Sequence[str] = (),
    methods: Sequence[str] = (),
    coco: Path | None = None,
    share: float = SHARE,
    sheet: Path | None = None,
) -> Exported:
    """Write masks and contact sheets of the gallery in ``out``.

    ``table`` is what the page's "Save table" wrote and chooses maps and their order; ``models`` and
    ``methods`` choose by name. Clips are left out, by name. See `write_coco` and `write_sheet`.
    A map that cannot be read is left out and listed. Raises `ConfigError`, with nothing written,
    where ``out`` is no gallery, nothing is asked for, a file cannot have that name, no photo is
    chosen, no map can be read, or ``share`` is not above 0 and at most 1.
    """
    store = Store(out)
    if not store.run.is_file():
        raise ConfigError(
            f"{out} is no gallery (there is no run.json); 'visattn gallery' makes one."
        )
    _check(coco, sheet, share)
    record = read_record(store.run)
    found = tabled(named(record, store.manifest.read(), models, methods), table)
    chosen = [entry for entry in found if entry.frames is None]
    if not chosen:
        raise ConfigError("There are only clips in this selection: masks and sheets are of photos.")
    failures = _unreadable(store, chosen)
    if len(failures) == len(chosen):
        raise ConfigError(f"No map of this selection can be read: {min(failures.values())}")
    chosen = [entry for entry in chosen if entry.key not in failures]
    if sheet is not None:
        styles = {
            (model, method): replace(gallery_style(each["style"]), caption=False, colorbar=False)
            for model, known in record["models"].items()
            for method, each in known["methods"].items()
        }
        write_sheet(store, chosen, styles, sheet)
    masks = write_coco(store, chosen, share, coco) if coco is not None else 0
    clips = tuple(entry.key for entry in found if entry.frames is not None)
    return Exported(len(chosen), masks, clips, failures)


def _check(coco: Path | None, sheet: Path | None, share: float) -> None:
    if coco is None and sheet is None:
        raise ConfigError("There is nothing to export: give --coco FILE.json or --sheet FILE.pdf.")
    if not 0 < share <= 1:
        raise ConfigError(f"--share is a share of the mass above 0, up to 1, not {share:g}.")
    if sheet is not None and sheet.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"A contact sheet is a .pdf or a .png, not {sheet.name!r}.")
    for path in filter(None, (coco, sheet)):
        if path.is_dir() or not path.resolve().parent.is_dir():
            reason = "a folder" if path.is_dir() else "its folder is not there"
            raise ConfigError(f"{path} cannot be written ({reason}); give the name of a file.")


def _unreadable(store: Store, entries: Sequence[Entry]) -> dict[Key, str]:
    found = {}
    for entry in entries:
        try:
            SaliencyMap.load(store.root / store.map(entry.key))
            load_image(store.root / store.photo(entry.image))
        except VisattnError as error:
            found[entry.key] = f"{error} 'visattn gallery' makes it again."
    return found
