"""Options by name: frozen dataclasses whose fields a user sets, with errors that help."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import fields
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, TypeVar

from visattn.errors import ConfigError, VisattnError, suggestion

Built = TypeVar("Built")
Kinds = Mapping[type, tuple[type, str]]

# What an option must be, by the type of its default.
NUMBERS: Kinds = MappingProxyType({int: (Integral, "an integer"), float: (Real, "a number")})
PLAIN: Kinds = MappingProxyType({**NUMBERS, bool: (bool, "True or False"), str: (str, "a word")})


def created(
    kind: type[Built],
    name: str,
    options: Mapping[str, Any],
    error: type[VisattnError],
    kinds: Kinds = NUMBERS,
) -> Built:
    """Return ``kind(**options)``, where ``kind`` is a dataclass that users know as ``name``.

    Raises ``error`` for an option that does not exist, with the nearest one, and for a value that
    is not of the kind that ``kinds`` asks for; True and False are no numbers.
    """
    known = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    for option in options:
        if option not in known:
            raise error(
                f"{name} has no option {option!r}."
                + (suggestion(option, known) or " It has no options.")
            )
    for each in fields(kind):  # type: ignore[arg-type]
        value = options.get(each.name, each.default)
        wanted, words = kinds.get(type(each.default), (object, ""))
        boolean = isinstance(value, bool) and wanted is not bool
        if words and (boolean or not isinstance(value, wanted)):
            raise error(f"{name}: {each.name}={value!r} is not {words}.")
    return kind(**options)


def require_choice(
    name: str, value: Any, choices: Collection[str], error: type[VisattnError] = ConfigError
) -> None:
    """Raise where an option is none of its values, naming them and the nearest one."""
    if value not in choices:
        near = suggestion(str(value), choices) if isinstance(value, str) else ""
        nearest = near if near.startswith(" Did you mean") else ""
        raise error(f"{name}={value!r} is not one of {', '.join(choices)}.{nearest}")


def require_at_least(
    name: str, value: float, least: float, error: type[VisattnError] = ConfigError
) -> None:
    """Raise where an option is not finite or lies below the least that makes sense."""
    if not (math.isfinite(value) and value >= least):
        raise error(f"{name}={value!r} is not at least {least:g}.")
