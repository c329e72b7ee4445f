"""Settings: a YAML file and flags become a config, with errors that name the key."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from visattn.errors import ConfigError, suggestion

if TYPE_CHECKING:
    from pydantic import BaseModel

    Config = TypeVar("Config", bound=BaseModel)


def read_settings(path: Path | None, example: str) -> dict[str, Any]:
    """Return the mapping in a YAML file, an empty one without a file.

    Raises `ConfigError` for a file that cannot be read or holds no mapping, such as ``example``.
    """
    import yaml

    if path is None:
        return {}
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"The config file {path} cannot be read ({reason}).") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"The config file {path} is not YAML: {error}") from error
    if not isinstance(settings, dict):
        raise ConfigError(
            f"The config file {path} must hold a mapping such as {example!r}, not "
            f"{type(settings).__name__}."
        )
    return settings


def validated(kind: type[Config], settings: Mapping[str, Any], flags: Mapping[str, str]) -> Config:
    """Return a config of one level; ``flags`` say how a key is given on the command line.

    Raises `ConfigError` with one line for each unknown key, with the nearest right one, each key
    that is missing, and each value of the wrong kind.
    """
    from pydantic import ValidationError

    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        lines = [_line(fault, kind, flags) for fault in faults]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from error


def _line(fault: Any, kind: type[BaseModel], flags: Mapping[str, str]) -> str:
    key = str(fault["loc"][0])
    if fault["type"] == "extra_forbidden":
        return f"There is no key {key!r}.{suggestion(key, kind.model_fields)}"
    if fault["type"] in ("missing", "too_short"):
        return f"{key} is missing: give {flags.get(key, key)}, or {key!r} in the config file."
    return f"{key} is {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}."
