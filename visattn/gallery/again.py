"""Again: the models and photos of a stored gallery, proven to be the ones it was made with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from visattn.errors import ConfigError, suggestion
from visattn.gallery.config import ModelConfig
from visattn.gallery.engine import TorchEngine
from visattn.gallery.plan import sha256
from visattn.gallery.record import Record, read_record
from visattn.gallery.selection import named, tabled
from visattn.gallery.store import Store

if TYPE_CHECKING:
    from visattn.models import Model


class Chosen(NamedTuple):
    """Photos of a gallery that another pass is to be made of.

    Attributes:
        record: of the gallery.
        photos: the originals, by model and by name in the gallery.
        clips: names that are left out because they move.
        failures: why a photo is left out, by its name.
    """

    record: Record
    photos: Mapping[str, Mapping[str, Path]]
    clips: tuple[str, ...]
    failures: Mapping[str, str]


def chosen_photos(
    out: Path,
    *,
    names: Sequence[str] = (),
    models: Sequence[str] = (),
    methods: Sequence[str] = (),
    table: Path | None = None,
    folder: Path | None = None,
) -> Chosen:
    """Return the photos of the gallery in ``out`` that have a map of these models and methods.

    ``names`` chooses photos as the gallery calls them, ``table`` is what the page saved,
    ``folder`` holds the photos where they have moved. Raises `ConfigError` where ``out`` is no
    gallery, a name is not in it, and where no photo is left.
    """
    store = Store(out)
    if not store.run.is_file():
        raise ConfigError(
            f"{out} is no gallery (there is no run.json); 'visattn gallery' makes one."
        )
    record, entries = read_record(store.run), store.manifest.read()
    _require(names, {entry.image for entry in entries})
    found = [e for e in entries if not names or e.image in names]
    found = tabled(named(record, found, models, methods), table)
    clips = dict.fromkeys(entry.image for entry in found if entry.frames is not None)
    originals = Path(record["input"]) if folder is None else folder
    failures: dict[str, str] = {}
    photos: dict[str, dict[str, Path]] = {}
    for entry in found:
        path = originals / entry.image
        if entry.frames is not None or entry.image in failures:
            continue
        if path in photos.get(entry.model, {}).values():
            continue
        if sha256(path) != entry.sha256:
            failures[entry.image] = f"{path} is gone or changed; --photos names another folder."
            continue
        photos.setdefault(entry.model, {})[entry.image] = path
    if not photos:
        reasons = list(failures.values()) or ["there are only clips in this selection"]
        raise ConfigError(f"There is no photo to explain again: {reasons[0]}")
    return Chosen(record, photos, tuple(clips), failures)


def recorded_model(record: Record, name: str, device: str = "auto") -> Model:
    """Return a model of a gallery, loaded as run.json says.

    Raises `ConfigError` where its weights are not those of the gallery's maps.
    """
    known = record["models"][name]
    settings = ModelConfig.model_validate({"name": name, **known["settings"]})
    model = TorchEngine().load(settings, device, record["seed"])
    before, after = known.get("weights_sha256"), model.weights_sha256
    if before != after:
        raise ConfigError(
            f"The weights of {name} are not those of this gallery (sha256 {str(before)[:12]} "
            f"then, {str(after)[:12]} now): put the checkpoint back, or make a new gallery."
        )
    return model  # type: ignore[return-value]  # the engine of visattn itself


def _require(names: Iterable[str], known: set[str]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(
                f"This gallery has no photo {name!r}.{suggestion(name, known)} Photos are called "
                "by their paths in the folder that the gallery was made of."
            )
