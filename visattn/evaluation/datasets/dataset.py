"""Dataset: samples for a model, one after another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from visattn.errors import ConfigError
from visattn.evaluation.sample import Excluded, Sample
from visattn.models import Model
from visattn.options import PLAIN, created


@dataclass(frozen=True)
class Dataset(ABC):
    """Where samples come from: parameters are fields.

    Subclasses are frozen dataclasses, one file each, decorated with
    `visattn.evaluation.datasets.DATASETS.register`. Their first field is what stands after the
    colon of a spec (``coco:annotations.json``), where they have one called ``source``.

    Attributes:
        truths: what samples have: names of masks, ``label``, ``tile``.
    """

    truths: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def samples(self, model: Model) -> Iterator[Sample | Excluded]:
        """Yield samples for a model in an order that is the same in every run.

        What cannot be used is yielded as `Excluded` with its reason and name, never passed over.
        Raises `ConfigError` where the whole data set cannot be used.
        """

    def known(self) -> tuple[str, ...]:
        """Return what samples of the data set as it stands have: `truths`, or more than these."""
        return self.truths

    def facts(self) -> dict[str, Any]:
        """Return what the data set is, for JSON."""
        return {each.name: _plain(getattr(self, each.name)) for each in fields(self)}

    @classmethod
    def create(cls, name: str, options: dict[str, Any]) -> Dataset:
        """Build the data set from options; raises `ConfigError` for unknown and unfit ones."""
        return created(cls, name, options, ConfigError, PLAIN)


def _plain(value: Any) -> Any:
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)
