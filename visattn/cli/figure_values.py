"""Layers, heads and queries as they are typed: ``0:12:3``, ``-1``, ``all``, ``pixel:120,80``."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from visattn.errors import ConfigError

ALL = "all"
NUMBER = re.compile(r"[+-]?\d+", re.ASCII)
WORD = re.compile(r"[A-Za-z]\w*")


def query_of(text: str) -> Any:
    """Return a query from ``cls``, ``mean``, ``ROW,COL`` or ``pixel:X,Y``.

    Words come back as they are; a patch as two ints, a pixel as `visattn.Pixel`. Raises
    `ConfigError` for what looks like a point and is none.
    """
    from visattn.query import Pixel

    kind, _, point = text.replace(" ", "").rpartition(":")
    if not kind and WORD.fullmatch(point):
        return text
    try:
        first, second = point.split(",")
        if kind == "pixel":
            return Pixel(_finite(first), _finite(second))
        if not kind:
            return int(first), int(second)
    except ValueError as error:
        raise _no_query(text) from error
    raise _no_query(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no place in a photo")
    return value


def _no_query(text: str) -> ConfigError:
    return ConfigError(
        f"--query {text!r}: a patch is ROW,COL in whole numbers, a pixel is pixel:X,Y, as in "
        "5,8 and pixel:120,80.5; cls and mean are the others."
    )


def counts(texts: Sequence[str]) -> bool:
    """Return whether what is typed depends on how many there are."""
    return any(text == ALL or ":" in text for text in texts)


def numbers(flag: str, texts: Sequence[str], count: Callable[[], int], of: str = "") -> list[Any]:
    """Return indices from ``3``, ``-1``, ``0:12:3`` and ``all``, and words as they are.

    ``count`` is asked only where `counts` says so; ``of`` says in errors what has so many. Raises
    `ConfigError` for anything else, and where nothing is chosen.
    """
    found: list[Any] = []
    for text in texts:
        if counts([text]):
            found += range(count())[_slice(flag, text)]
        elif NUMBER.fullmatch(text) or WORD.fullmatch(text):
            found.append(int(text) if NUMBER.fullmatch(text) else text)
        else:
            raise _no_number(flag, text)
    if texts and not found:
        raise ConfigError(f"{flag} {' '.join(texts)}: chooses nothing{of}, which has {count()}.")
    return list(dict.fromkeys(found))


def _slice(flag: str, text: str) -> slice:
    if text == ALL:
        return slice(None)
    try:
        chosen = slice(*(int(part) if part else None for part in text.split(":")))
    except (ValueError, TypeError) as error:
        raise _no_number(flag, text) from error
    if chosen.step == 0:
        raise ConfigError(f"{flag} {text!r}: a step of 0 goes nowhere; give 1 or more, or -1.")
    return chosen


def _no_number(flag: str, text: str) -> ConfigError:
    return ConfigError(f"{flag} {text!r}: give a number, START:STOP:STEP or 'all'.")
