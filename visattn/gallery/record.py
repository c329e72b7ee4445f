"""run.json: what made a gallery, and whether another run may add to it."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from visattn.atomic import write_text
from visattn.errors import ConfigError
from visattn.gallery.config import GalleryConfig
from visattn.gallery.manifest import FAILED, OK, Entry
from visattn.gallery.summary import Summary

FORMAT = 1
LIBRARIES = ("torch", "timm", "numpy", "pillow")
WHOLE = ("input", "seed", "overlay_size")
DRAWN = ("seed", "overlay_size", "style")
CLIPS = ("fps", "smoothing", "max_frames")
CUT = "rendering"  # in a record: models and methods whose pictures may have two styles

Record = dict[str, Any]


def new_record(config: GalleryConfig) -> Record:
    """Return the record of a run that begins now."""
    models = {
        model.name: {
            "settings": model.settings(),
            "methods": {
                method.name: {
                    "target": config.target_of(model),
                    "options": method.options,
                    "style": config.style_of(method),
                }
                for method in config.methods_of(model)
            },
        }
        for model in config.models
    }
    record = {
        "format": FORMAT,
        "config": config.model_dump(mode="json"),
        "command": list(sys.argv),
        "versions": _versions(),
        "input": str(config.input.resolve()),
        "seed": config.seed,
        "overlay_size": config.overlay_size,
        "clips": {name: getattr(config, name) for name in CLIPS},
        "models": models,
        "started": now(),
        "finished": None,
        "counts": None,
    }
    plain: Record = json.loads(json.dumps(record, default=str))
    return plain


def read_record(path: Path) -> Record:
    """Return a stored record; raises `ConfigError` when the file is not one."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read ({error}); give another --out.") from error
    needed = {*WHOLE, "format", "models", "started", "finished", "versions"}
    if not isinstance(record, dict) or not needed <= set(record) or record["format"] != FORMAT:
        raise ConfigError(
            f"{path} does not describe a gallery of this version of visattn. Nothing was touched; "
            "give another --out."
        )
    return record


def write_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write run.json at once."""
    write_text(path, json.dumps(record, indent=2, default=str) + "\n")


def finish(record: Record, summary: Summary) -> None:
    """Note the end of a run and its counts."""
    record["finished"] = now()
    record["counts"] = {
        name: getattr(summary, name) for name in ("ok", "failed", "unsupported", "kept")
    }


def check_same(
    old: Record, new: Record, entries: Sequence[Entry], class_specific: Callable[[str], bool]
) -> None:
    """Raise `ConfigError` when maps of the two records would not belong in one gallery.

    New models, methods and photos may join; what the ``entries`` of earlier runs have settled must
    stay. A failure settles nothing, so that the setting behind it can be corrected.
    """
    if old.get(CUT):
        raise ConfigError(
            "Drawing this gallery again was cut off, so that its pictures may have two styles: "
            "'visattn render' on it completes that. Or --overwrite to compute all of it again."
        )
    settled, drawn = _settled(entries), {each.key[1:] for each in entries if each.status == OK}
    whole = [name for name in WHOLE if drawn or (settled and name not in DRAWN)]
    changes = [_change(name, old[name], new[name]) for name in whole if old[name] != new[name]]
    if any(entry.frames for entry in entries):
        then, this = old["clips"], new["clips"]
        changes += [
            _change(each, then[each], this[each]) for each in CLIPS if then[each] != this[each]
        ]
    for name in old["models"].keys() & new["models"].keys() & {model for model, _ in settled}:
        before, after = old["models"][name], new["models"][name]
        changes += _model_changes(name, before, after)
        for method in before["methods"].keys() & after["methods"].keys():
            if (name, method) in settled:
                keys = ["options"] + ["style"] * ((name, method) in drawn)
                keys += ["target"] * class_specific(method)
                changes += _method_changes(name, method, before, after, keys)
    if changes:
        raise ConfigError(
            "This gallery was made with other settings:\n  "
            + "\n  ".join(sorted(changes))
            + "\nGive another --out, or --overwrite to compute all of it again."
        )


def merge(old: Record, new: Record, entries: Sequence[Entry]) -> Record:
    """Return the new record with the models and methods that only the old one has.

    A model whose every entry failed starts anew: other weights may answer to its name.
    """
    settled = {model for model, _ in _settled(entries)}
    models = {name: entry for name, entry in old["models"].items() if name in settled}
    for name, entry in new["models"].items():
        before = models.get(name, {})
        methods = {**before.get("methods", {}), **entry["methods"]}
        models[name] = {**before, **entry, "methods": methods}
    return {**new, "models": models}


def describe(record: Record, name: str, model: Any) -> None:
    """Add a loaded model's facts and the sha256 of its weights.

    Raises `ConfigError` when the weights are not those of the maps that are already there.
    """
    entry = record["models"][name]
    before, after = entry.get("weights_sha256"), model.weights_sha256
    if before and after and before != after:
        raise ConfigError(
            f"The weights of {name} have changed since this gallery was made (sha256 {before[:12]} "
            f"then, {after[:12]} now). Give another --out, or --overwrite."
        )
    entry["weights_sha256"] = after
    entry["facts"] = model.facts()


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _settled(entries: Sequence[Entry]) -> set[tuple[str, str]]:
    """Return the models and methods that have more than failures."""
    return {(each.model, each.method) for each in entries if each.status != FAILED}


def _model_changes(name: str, old: Record, new: Record) -> list[str]:
    before, after = old["settings"], new["settings"]
    return [
        _change(f"{key} of {name}", before.get(key), after.get(key))
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]


def _method_changes(
    name: str, method: str, old: Record, new: Record, keys: Sequence[str]
) -> list[str]:
    then, this = old["methods"][method], new["methods"][method]
    return [
        _change(f"{key} of {method} for {name}", then.get(key), this.get(key))
        for key in keys
        if then.get(key) != this.get(key)
    ]


def _change(what: str, before: Any, after: Any) -> str:
    return f"{what}: was {json.dumps(before)}, is now {json.dumps(after)}"


def _versions() -> dict[str, str | None]:
    from visattn import __version__

    known = {"visattn": __version__, "python": platform.python_version()}
    return {**known, **{name: _version(name) for name in LIBRARIES}}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
