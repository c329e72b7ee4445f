"""GateFamily: what visattn must know about one class of gate modules."""

from __future__ import annotations

import sys
from typing import ClassVar, Literal, NamedTuple

from torch import nn

Kind = Literal["channel", "spatial", "pointwise", "branch", "distribution"]
KINDS: tuple[Kind, ...] = ("channel", "spatial", "pointwise", "branch", "distribution")


class GateFamily:
    """Which classes weigh their input, and with what kinds of gate.

    A family is one file with one subclass, decorated with `visattn.gates.GATES.register`, or in
    your own code with `visattn.register_gate`. The gate itself is never computed here: it is taken
    from the multiplication inside ``forward`` of the class.

    Attributes:
        family: its name.
        classes: the classes, subclasses included: as (module path, class name) for a library that
            may not be there, or as the class itself.
        kinds: what its multiplications weigh, in the order in which they happen. ``channel``: one
            value per image and channel; ``spatial``: one per image and position; ``pointwise``: one
            per image, channel and position (several factors in a row count as one gate);
            ``branch``: one per image, branch and channel, where the branches are stacked on axis 1;
            ``distribution``: a softmax over the positions of the input, with which they are pooled.
        mixing: whether the distribution is instead that of two matrices, ``P x Q``, which mix the
            rows and the columns of the input.
        bounds: lowest and highest value of its gates; None where they are not bounded. Gates are
            called dead or saturated only between 0 and 1.
        layout: ``channels_first`` for (batch, channel, row, col), ``channels_last`` for (batch,
            row, col, channel).
        offset: what the class adds to the gate before it multiplies: 1 where it computes
            ``(1 + M) * x``, so that M is what is recorded and drawn.
        telling: whether a class elsewhere with one of these names is likely to be a gate, too.
        paper: authors, venue, year.
    """

    family: ClassVar[str]
    classes: ClassVar[tuple[type[nn.Module] | tuple[str, str], ...]] = ()
    kinds: ClassVar[tuple[Kind, ...]] = ("channel",)
    mixing: ClassVar[bool] = False
    bounds: ClassVar[tuple[float, float] | None] = (0.0, 1.0)
    layout: ClassVar[Literal["channels_first", "channels_last"]] = "channels_first"
    offset: ClassVar[float] = 0.0
    telling: ClassVar[bool] = True
    paper: ClassVar[str] = ""

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Return whether ``module`` is of one of the classes, without importing a library."""
        return isinstance(module, cls.loaded())

    @classmethod
    def loaded(cls) -> tuple[type, ...]:
        """Return those of the classes whose library is loaded."""
        found = (_loaded(each) for each in cls.classes)
        return tuple(each for each in found if each is not None)

    @classmethod
    def kinds_of(cls, module: nn.Module) -> tuple[Kind, ...]:
        """Return the kinds of gate that this ``module`` has, where its options decide."""
        del module
        return cls.kinds


class GateModule(NamedTuple):
    """A module of a registered class.

    Attributes:
        name: dotted name.
        module: the module.
        family: what is known of its class.
        kinds: its kinds of gate.
    """

    name: str
    module: nn.Module
    family: type[GateFamily]
    kinds: tuple[Kind, ...]


def _loaded(known: type[nn.Module] | tuple[str, str]) -> type | None:
    """Return a class, or None where the library that defines it is not loaded."""
    if isinstance(known, type):
        return known
    home, name = known
    found = getattr(sys.modules.get(home), name, None)
    return found if isinstance(found, type) else None
