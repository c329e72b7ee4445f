"""Slugs: model and method names as file names, never the same for two names."""

from __future__ import annotations

import hashlib
import re

SOURCES = ("hf", "open_clip", "packaged", "reference", "timm", "torchvision")

_PREFIXED = re.compile(rf"({'|'.join(SOURCES)}):([a-z0-9][a-z0-9._-]*)")
_PLAIN = re.compile(rf"(?!({'|'.join(SOURCES)})_)[a-z0-9][a-z0-9._-]*")
_DIGEST = re.compile(r"-[0-9a-f]{12}$")


def slug(name: str) -> str:
    """Return ``name`` in lower-case letters, digits, ``.``, ``_`` and ``-``.

    ``source:model`` becomes ``source_model``. Names that this rule could confuse with another
    (capitals, which some file systems fold; slashes; a plain name that looks like a converted one)
    get the start of their sha256 appended.
    """
    prefixed = _PREFIXED.fullmatch(name)
    plain = "_".join(prefixed.groups()) if prefixed else name
    if (prefixed or _PLAIN.fullmatch(name)) and not _DIGEST.search(name) and len(name) <= 80:
        return plain
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    cleaned = re.sub(r"[^a-z0-9._-]+", "_", name.lower()).strip("._-")[:60]
    return f"{cleaned or 'name'}-{digest}"
