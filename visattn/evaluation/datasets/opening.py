"""Opening: from ``name:place?options`` to a data set."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from visattn.errors import ConfigError
from visattn.evaluation.datasets.dataset import Dataset
from visattn.evaluation.datasets.registry import DATASETS
from visattn.evaluation.spec import parsed

SOURCE = "source"


def open_dataset(text: str) -> Dataset:
    """Return the data set of a spec.

    ``name:place`` for one that lies somewhere (``coco:instances.json``), ``name`` alone for one
    that is generated; options follow after ``?``: ``planted?objects=2,difficulty=hard``,
    ``mosaics:photos?side=3``. A folder alone is ``images:folder``. Raises `ConfigError`.
    """
    before, _, options = text.partition("?")
    name, _, place = before.partition(":")
    if name not in DATASETS.names():
        folder = next((each for each in (text, before) if Path(each).is_dir()), None)
        if folder is not None:
            name, place, options = "images", folder, "" if folder == text else options
    kind, given = DATASETS.get(name), _given(text, options)
    takes = any(each.name == SOURCE for each in fields(kind))
    if takes and not place:
        raise ConfigError(f"{text!r}: say where it is, {name}:PATH.")
    if place and not takes:
        raise ConfigError(f"{text!r}: {name} is generated and lies nowhere; options follow '?'.")
    source: dict[str, Any] = {SOURCE: Path(place)} if takes else {}
    return kind.create(name, {**source, **given})


def _given(text: str, options: str) -> dict[str, Any]:
    try:
        return parsed(f"options:{options}")[1]
    except ConfigError as error:
        raise ConfigError(
            f"{text!r}: the options {options!r} cannot be read ({error.__cause__}): write "
            "?key=value,key='text with / or spaces'."
        ) from error
