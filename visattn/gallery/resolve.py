"""From a YAML file and command-line flags to a `GalleryConfig`; flags override the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from visattn.errors import ConfigError, suggestion
from visattn.gallery.config import GalleryConfig, MethodConfig, ModelConfig, Part
from visattn.gallery.flags import with_image_size, with_options, with_style, with_weights
from visattn.settings import read_settings

EXAMPLE = "input: photos"
LEVELS: dict[str, type[Part]] = {"models": ModelConfig, "methods": MethodConfig}
EXPECTED = {
    "int_type": "a whole number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping of options",
    "path_type": "a path",
    "model_type": "a name or a mapping with a name",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "greater_than": "a number above {gt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "too_short": "at least one entry",
}


def load_config(
    path: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> GalleryConfig:
    """Return the configuration of a YAML file (or of nothing), with ``overrides`` on top.

    Relative paths are relative to the current directory. Raises `ConfigError` for a file that is
    missing or not YAML, for an unknown key at any level, naming the nearest right one, and for a
    value of the wrong type, naming key, value and what is expected.
    """
    settings = read_settings(None if path is None else Path(path), EXAMPLE)
    return _build({**settings, **(overrides or {})})


def resolve_config(
    input_dir: str | Path | None = None,
    out: str | Path | None = None,
    models: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    config_path: str | Path | None = None,
    target: int | str | None = None,
    batch_size: int | None = None,
    device: str | None = None,
    workers: int | None = None,
    limit: int | None = None,
    overwrite: bool | None = None,
    options: Mapping[str, Any] | None = None,
    style: Mapping[str, Any] | None = None,
    image_size: int | tuple[int, int] | None = None,
    fps: float | None = None,
    smoothing: float | None = None,
    max_frames: int | None = None,
    weights: Sequence[str] = (),
) -> GalleryConfig:
    """Return the configuration of ``visattn gallery``: what is given overrides the file.

    A model or method named here keeps the settings that the file gives to that name. Methods and
    target given here count for every model. A target of digits is a class index. Options go to
    every method that has them, ``image_size`` to every model without its own, one of ``weights``
    to all models, or one to each.
    """
    settings = read_settings(None if config_path is None else Path(config_path), EXAMPLE)
    flags = {
        "input": input_dir,
        "out": out,
        "target": _index(target),
        "batch_size": batch_size,
        "device": device,
        "workers": workers,
        "limit": limit,
        "overwrite": overwrite or None,
        "fps": fps,
        "smoothing": smoothing,
        "max_frames": max_frames,
    }
    settings |= {key: value for key, value in flags.items() if value is not None}
    if models:
        settings["models"] = _pick(models, _entries(settings, "models"))
    if methods:
        settings["methods"] = _pick(methods, _all_methods(settings))
        settings["models"] = _without(settings, "methods")
    if target is not None:
        settings["models"] = _without(settings, "target")
    config = _build(settings)
    config = with_options(config, options) if options else config
    config = with_style(config, style) if style else config
    config = with_weights(config, weights) if weights else config
    return config if image_size is None else with_image_size(config, image_size)


def _build(settings: Mapping[str, Any]) -> GalleryConfig:
    try:
        return GalleryConfig.model_validate(settings)
    except ValidationError as error:
        lines = [_line(fault) for fault in error.errors(include_url=False)]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from error


def _line(fault: Any) -> str:
    *above, key = fault["loc"]
    where = _dotted(fault["loc"])
    if fault["type"] == "extra_forbidden":
        level = next((LEVELS[part] for part in reversed(above) if part in LEVELS), GalleryConfig)
        place = f" in {_dotted(above)}" if above else ""
        return f"There is no key {key!r}{place}.{suggestion(str(key), level.model_fields)}"
    if fault["type"] == "missing":
        flag = {"input": "INPUT_DIR", "out": "--out", "models": "--model"}.get(where)
        repair = f" (or give {flag})" if flag else ""
        return f"{where} is missing: add it to the config{repair}."
    expected = EXPECTED.get(fault["type"], fault["msg"]).format(**fault.get("ctx", {}))
    expected = expected.removeprefix("Value error, ")
    return f"{where} is {fault['input']!r}, but must be {expected}."


def _dotted(location: Sequence[Any]) -> str:
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in location]
    return "".join(steps).removeprefix(".")


def _index(target: int | str | None) -> int | str | None:
    if isinstance(target, str) and target.strip().isdecimal():
        return int(target)
    return target


def _entries(settings: Mapping[str, Any], key: str) -> list[Any]:
    entries = settings.get(key) or []
    return entries if isinstance(entries, list) else [entries]


def _all_methods(settings: Mapping[str, Any]) -> list[Any]:
    own = [entry for entry in _entries(settings, "models") if isinstance(entry, Mapping)]
    nested = [method for entry in own for method in _entries(entry, "methods")]
    return [*nested, *_entries(settings, "methods")]


def _pick(names: Sequence[str], known: Sequence[Any]) -> list[Any]:
    """Return the known entry of each name, so that its settings are kept; else the name alone."""
    by_name = {entry.get("name"): entry for entry in known if isinstance(entry, Mapping)}
    return [by_name.get(name, name) for name in names]


def _without(settings: Mapping[str, Any], key: str) -> list[Any]:
    return [
        {name: value for name, value in entry.items() if name != key}
        if isinstance(entry, Mapping)
        else entry
        for entry in _entries(settings, "models")
    ]
