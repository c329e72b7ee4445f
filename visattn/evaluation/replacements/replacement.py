"""Replacement: what a model sees where parts of its input were removed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch

from visattn.evaluation.bench import Bench
from visattn.evaluation.sample import Sample
from visattn.evaluation.units import Flags, Units
from visattn.images import Size
from visattn.models import Model

Filling = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, eq=False)
class Variant:
    """An input from which some units are removed.

    Attributes:
        sample: whose input.
        units: the partition.
        removed: (unit,) bool.
    """

    sample: Sample
    units: Units
    removed: Flags

    @property
    def mask(self) -> torch.Tensor:
        """The removed pixels (row, col), bool."""
        return torch.from_numpy(self.units.spread(self.removed))


@dataclass(frozen=True)
class Replacement(ABC):
    """A way of removing units from inputs.

    Subclasses are decorated with `visattn.evaluation.replacements.REPLACEMENTS.register`.

    Attributes:
        seed: of random numbers, where there are any, besides the name of the sample.
    """

    seed: int = 0

    @abstractmethod
    def filling(self, model: Model, sample: Sample) -> Filling:
        """Return the function from removed pixels (row, col) to the input (channel, row, col)."""

    def refusal(self, model: Model, size: Size, everything: bool = False) -> str | None:
        """Return why it cannot be used with a model and inputs of ``size``, or None.

        ``everything``: whether there are variants without any unit.
        """
        del model, size, everything
        return None

    def outputs(self, bench: Bench, variants: Iterable[Variant]) -> Iterator[torch.Tensor]:
        """Yield the output (1, ...) of each variant, in order; taken one batch at a time."""
        return bench.outputs(self._inputs(bench.model, variants))

    def _inputs(self, model: Model, variants: Iterable[Variant]) -> Iterator[torch.Tensor]:
        last, fill = None, None
        for variant in variants:
            if fill is None or variant.sample is not last:
                last, fill = variant.sample, self.filling(model, variant.sample)
            yield fill(variant.mask)


@dataclass(frozen=True)
class Substitute(Replacement):
    """A replacement whose pixels do not depend on which others are removed."""

    @abstractmethod
    def substitute(self, model: Model, sample: Sample) -> torch.Tensor:
        """Return what is seen where everything is removed, (channel, row or 1, col or 1)."""

    def filling(self, model: Model, sample: Sample) -> Filling:
        """Return the input, with the substitute's pixels where they are removed."""
        original = sample.prepared.tensor
        instead = self.substitute(model, sample).to(original)
        return lambda mask: torch.where(mask, instead, original)
