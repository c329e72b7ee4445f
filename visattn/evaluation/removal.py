"""Removal: what a model says of a sample while units go in the order of a map."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
import torch

from visattn.adapters import remembered_chains
from visattn.evaluation.bench import Bench
from visattn.evaluation.case import LOGIT, PROBABILITY, Case
from visattn.evaluation.replacements import REPLACEMENTS, Replacement, Variant
from visattn.evaluation.sample import Excluded
from visattn.evaluation.seeding import generator
from visattn.evaluation.units import Flags, Units, Values, ranks
from visattn.models import Model

UNCOVERED = "the map does not cover the input"
EVEN = "the map is the same on all units"
NOT_FINITE = "the score is not finite"


@dataclass(frozen=True)
class Band:
    """The units between two places in the order of relevance, as shares of their number.

    Attributes:
        start: 0 is the most relevant unit.
        stop: 1 is the least relevant unit.
        backwards: whether places are counted from the least relevant unit.
    """

    start: Fraction
    stop: Fraction
    backwards: bool = False

    def of(self, places: npt.NDArray[np.int64]) -> Flags:
        """Return which units (unit,) lie in the band; ``places`` (unit,) are those of `ranks`."""
        count = places.size
        own = count - 1 - places if self.backwards else places
        return np.asarray((own >= round(count * self.start)) & (own < round(count * self.stop)))


NOTHING, ALL = Band(Fraction(0), Fraction(0)), Band(Fraction(0), Fraction(1))


def most(share: Fraction) -> Band:
    """Return the band of the most relevant units."""
    return Band(Fraction(0), share)


def least(share: Fraction) -> Band:
    """Return the band of the least relevant units."""
    return Band(Fraction(0), share, backwards=0 < share < 1)


def after(share: Fraction) -> Band:
    """Return the band of all units but the most relevant."""
    return Band(share, Fraction(1)) if share < 1 else NOTHING


class Reading(NamedTuple):
    """What a model says of a variant: the explained score in both forms, and its own choice."""

    logit: float
    probability: float
    choice: int | None

    @classmethod
    def of(cls, case: Case, output: torch.Tensor) -> Reading:
        """Read an output (1, ...)."""
        logit, probability = (float(case.scores(output, kind)) for kind in (LOGIT, PROBABILITY))
        return cls(logit, probability, _choice(output))


@dataclass(frozen=True)
class Removal:
    """How units are removed.

    Attributes:
        fill: name of the replacement.
        unit: side of units in pixels; None: the model's own, see `Units.of`.
        seed: of ties and noise.
    """

    fill: str
    unit: int | None = None
    seed: int = 0

    @property
    def replacement(self) -> Replacement:
        """The replacement; raises `ConfigError` for a name that does not exist."""
        return REPLACEMENTS.get(self.fill)(self.seed)


@dataclass(frozen=True, eq=False)
class Ordered:
    """The units of a case in the order of its map.

    Attributes:
        units: the partition.
        relevance: mean of the map over each unit (unit,).
        places: of units in the order of relevance (unit,).
    """

    units: Units
    relevance: Values
    places: npt.NDArray[np.int64]


class Path(NamedTuple):
    """A case with the order of its units and what was read along it."""

    ordered: Ordered
    readings: Mapping[Band, Reading]


Memo = dict[Removal, dict[Band, Reading]]
# Metrics that follow the same path of one case share it for as long as the case lives.
_MEMO: WeakKeyDictionary[Case, Memo] = WeakKeyDictionary()


def ordered(model: Model, case: Case, removal: Removal) -> Ordered | Excluded:
    """Return the units of a case in order, or why they have none."""
    size = case.sample.size
    units, patches = Units.of(model, size, removal.unit), Units.of(model, size)
    relevance = units.relevance(case.found)
    if not np.isfinite(relevance).all():
        return Excluded(UNCOVERED)
    if np.ptp(relevance) == 0:
        return Excluded(EVEN)
    random = generator(case.sample.name, removal.seed)
    return Ordered(units, relevance, ranks(relevance, units, patches, random))


@remembered_chains()
def paths(
    bench: Bench, cases: Sequence[Case], removal: Removal, bands: Iterable[Band]
) -> list[Path | Excluded]:
    """Return what the model says of each case without the units of each band.

    One forward pass for each band and case that no metric has asked for before, packed across
    cases; none for the input as it is.
    """
    wanted = [band for band in dict.fromkeys(bands) if band != NOTHING]
    orders = [ordered(bench.model, case, removal) for case in cases]
    memos = [_memo(case, removal) for case in cases]
    missing = [
        (place, band)
        for place, (order, memo) in enumerate(zip(orders, memos, strict=True))
        for band in wanted
        if isinstance(order, Ordered) and band not in memo
    ]
    variants = _variants(cases, orders, missing)
    outputs = removal.replacement.outputs(bench, variants)
    for (place, band), output in zip(missing, outputs, strict=True):
        memos[place][band] = Reading.of(cases[place], output)
    return [
        order if isinstance(order, Excluded) else _path(order, memo, (NOTHING, *wanted))
        for order, memo in zip(orders, memos, strict=True)
    ]


def _variants(
    cases: Sequence[Case],
    orders: Sequence[Ordered | Excluded],
    missing: Sequence[tuple[int, Band]],
) -> Iterator[Variant]:
    for place, band in missing:
        order = orders[place]
        if isinstance(order, Ordered):
            yield Variant(cases[place].sample, order.units, band.of(order.places))


def _memo(case: Case, removal: Removal) -> dict[Band, Reading]:
    known = _MEMO.setdefault(case, {}).setdefault(removal, {})
    if NOTHING not in known:
        known[NOTHING] = Reading.of(case, case.output)
    return known


def _path(order: Ordered, memo: dict[Band, Reading], bands: Sequence[Band]) -> Path | Excluded:
    readings = {band: memo[band] for band in bands}
    finite = np.isfinite([reading[:2] for reading in readings.values()]).all()
    return Path(order, readings) if finite else Excluded(NOT_FINITE)


def _choice(output: torch.Tensor) -> int | None:
    """Return the class that an output (1, class) chooses, None where it has no classes."""
    if output.ndim != 2:
        return None
    return int(output[0, 0] > 0) if output.shape[1] == 1 else int(output[0].argmax())
