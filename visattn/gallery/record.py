"""run.json: what made a gallery, and whether another run may add to it."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

from visattn.atomic import write_text
from visattn.errors import ConfigError
from visattn.gallery.config import GalleryConfig
from visattn.gallery.summary import Summary

FORMAT = 1
LIBRARIES = ("torch", "timm", "numpy", "pillow")
WHOLE = ("input", "seed", "overlay_size")

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


def check_same(old: Record, new: Record, class_specific: Callable[[str], bool]) -> None:
    """Raise `ConfigError` when maps of the two records would not belong in one gallery.

    New models, methods and photos may join; what an earlier run has settled must stay.
    """
    changes = [_change(name, old[name], new[name]) for name in WHOLE if old[name] != new[name]]
    for name in old["models"].keys() & new["models"].keys():
        changes += _model_changes(name, old["models"][name], new["models"][name], class_specific)
    if changes:
        raise ConfigError(
            "This gallery was made with other settings:\n  "
            + "\n  ".join(sorted(changes))
            + "\nGive another --out, or --overwrite to compute all of it again."
        )


def merge(old: Record, new: Record) -> Record:
    """Return the new record with the models and methods that only the old one has."""
    models = dict(old["models"])
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


def _model_changes(
    name: str, old: Record, new: Record, class_specific: Callable[[str], bool]
) -> list[str]:
    before, after = old["settings"], new["settings"]
    changes = [
        _change(f"{key} of {name}", before.get(key), after.get(key))
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]
    for method in old["methods"].keys() & new["methods"].keys():
        then, this = old["methods"][method], new["methods"][method]
        changes += [
            _change(f"{key} of {method} for {name}", then.get(key), this.get(key))
            for key in ("options", "style", "target")
            if then.get(key) != this.get(key) and (key != "target" or class_specific(method))
        ]
    return changes


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
