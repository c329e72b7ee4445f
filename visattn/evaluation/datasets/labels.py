"""Labels: from names of categories to a model's outputs."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

from visattn.errors import ConfigError
from visattn.evaluation.sample import Excluded
from visattn.models import Model

NOT_KNOWN = "class not in the label list"
AMBIGUOUS = "class name stands for several outputs"
Known = dict[str, set[int]]


class Aim(NamedTuple):
    """What is explained in a sample: `Sample.target` and `Sample.label`."""

    target: Any
    label: int | None


class Labels:
    """The outputs of a model by name.

    A name is that of an output where both are equal, capitals, underscores and spaces aside; where
    no output has it, one whose label lists it among its synonyms (``tench, Tinca tinca``). Numbers
    are indices where no label is a number. A model without a classifier knows every name: its
    target is the photo's own embedding.

    Args:
        model: whose outputs are named.
        classes: file that says which output a category is, by its label or index: a JSON object,
            or CSV lines ``category,label``. An empty label (JSON: null) leaves a category out. What
            is not in the file is looked up as without it. None: no file.

    Raises:
        ConfigError: the file cannot be read.
    """

    def __init__(self, model: Model, classes: str | Path | None = None) -> None:
        self.model = model
        self.mapping = {} if classes is None else _mapping(Path(classes))
        self.whole, self.synonyms = Known(), Known()
        for index, label in enumerate(model.labels or ()):
            self.whole.setdefault(plain(label), set()).add(index)
            for synonym in label.split(","):
                self.synonyms.setdefault(plain(synonym), set()).add(index)

    def require_names(self) -> None:
        """Raise `ConfigError` where no category can be found because the outputs have no names."""
        if self.model.has_classifier and not self.model.labels and not self.mapping:
            raise ConfigError(
                f"{self.model.name} has no class names, so the categories of the data set cannot "
                "be found among its outputs: give classes=FILE with a line 'category,index' each, "
                "or load the model with labels=."
            )

    def index(self, category: str) -> int | None:
        """Return the output of a category, None where there is none or more than one."""
        found = self._found(category)
        return next(iter(found)) if len(found) == 1 else None

    def aim(self, category: str, name: str) -> Aim | Excluded:
        """Return what is explained for a category in the sample called ``name``."""
        if not self.model.has_classifier:
            return Aim("embedding", None)
        found = self._found(category)
        if len(found) != 1:
            return Excluded(AMBIGUOUS if found else NOT_KNOWN, name)
        (index,) = found
        return Aim(index, index)

    def _found(self, category: str) -> set[int]:
        wanted = plain(self.mapping.get(plain(category), category))
        found = self.whole.get(wanted) or self.synonyms.get(wanted)
        if found or not wanted.isdecimal():
            return found or set()
        index, count = int(wanted), self._count()
        return {index} if count is None or index < count else set()

    def _count(self) -> int | None:
        count = self.model.adapter.num_classes or len(self.model.labels or ()) or None
        return None if count is None else max(count, 2)  # one output stands for two classes


def plain(name: str) -> str:
    """Return a name without capitals, underscores and surplus spaces."""
    return " ".join(name.replace("_", " ").split()).casefold()


def _mapping(path: Path) -> dict[str, str]:
    """Return label or index by category; the empty text for a category that is left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        pairs = _object(text) if text.lstrip().startswith("{") else _lines(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"classes={path} cannot be read: {error}") from error
    return {plain(category): label.strip() for category, label in pairs}


def _object(text: str) -> list[tuple[str, str]]:
    pairs = json.loads(text)
    for category, label in pairs.items():
        if type(label) not in (str, int, type(None)):
            raise ValueError(f"{category!r}: {label!r} is neither a label nor an index")
    return [(key, "" if label is None else str(label)) for key, label in pairs.items()]


def _lines(text: str) -> list[tuple[str, str]]:
    rows = [row for row in csv.reader(text.splitlines()) if row]
    if any(len(row) != 2 for row in rows):
        raise ValueError("a line is not 'category,label'; put names with commas into quotes")
    return [(row[0], row[1]) for row in rows if row != ["category", "label"]]
