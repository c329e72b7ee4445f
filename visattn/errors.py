"""One error tree.

VisattnError
├── ImageError               a file is missing, empty, truncated, too large or not an image
├── ModelError               a model cannot be built, or its facts cannot be read
│   └── WeightsError         weights cannot be fetched, verified or matched to the architecture
├── CaptureError             a pass ran but the attention it computed was not observed or not proven
├── UnsupportedMethodError   a method makes no sense for this model, or has no such option
├── TargetError              the thing to explain is missing, unknown or ambiguous
└── ConfigError              a command, option or configuration file is wrong
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

SHOWN = 20


class VisattnError(Exception):
    """Base of every error that visattn raises on purpose."""


class ImageError(VisattnError):
    """An image cannot be read; the message names the file."""


class ModelError(VisattnError):
    """A model cannot be built, or a fact about it cannot be established."""


class WeightsError(ModelError):
    """Weights cannot be fetched, verified or matched to the architecture."""


class CaptureError(VisattnError):
    """The attention of a pass was not observed, or what was observed could not be proven."""


class UnsupportedMethodError(VisattnError):
    """A method makes no sense for this model or request; the message says what would work."""


class TargetError(VisattnError):
    """The thing to explain is missing, unknown or ambiguous."""


class ConfigError(VisattnError):
    """A command, option or configuration file is wrong."""


def suggestion(wrong: str, right: Iterable[str]) -> str:
    """Return ``' Did you mean ...?'`` for the closest right name, or some of the right names."""
    names = sorted(right)
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {close[0]!r}?"
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f" Choose from: {', '.join(names[:SHOWN])}{more}." if names else ""
