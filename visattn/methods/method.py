"""Method: from what a pass computed to values on a grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch

from visattn.adapters import Adapter, Refusal, Site, chain_of
from visattn.channels import ChannelRanking
from visattn.errors import UnsupportedMethodError
from visattn.gates import Kind, gate_modules
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.observation import AttentionRecord, Keep
from visattn.options import created
from visattn.propagation import Rules, rules_named


@dataclass(frozen=True, eq=False)
class Maps:
    """Raw values of one method for a batch.

    Attributes:
        values: (batch, row, col), any float dtype.
        cell: height and width of a cell in input pixels; None where the grid covers the input.
        warnings: for each image, what a reader must know.
        facts: what the method chose (read-out, layer, ...), for the provenance.
        measured: for each image, what was measured on it (completeness gap, ...).
        signed: for each image, whether its values are signed, where that depends on the target;
            empty: as the method declares.
        silent: for each image why its map carries no signal though its cells differ, or None.
        channels: for each image the ranking of channels behind its map; empty: none.
    """

    values: torch.Tensor
    cell: tuple[float, float] | None = None
    warnings: Sequence[Sequence[str]] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    measured: Sequence[dict[str, Any]] = ()
    signed: Sequence[bool] = ()
    silent: Sequence[str | None] = ()
    channels: Sequence[ChannelRanking] = ()


@dataclass(frozen=True)
class Passes:
    """What one image costs in passes through the model, the shared first forward pass included.

    Attributes:
        forward, backward: numbers of passes; a forward pass on half of the tokens counts as one.
        at_most: whether these are upper bounds, because the number depends on the image.
        per: what costs one more forward pass each, where its number is not known (``channel``).
    """

    forward: int = 1
    backward: int = 0
    at_most: bool = False
    per: str = ""

    def __str__(self) -> str:
        bound = "at most " if self.at_most else ""
        forward = "forward" if self.forward == 1 else f"{self.forward} forward"
        forward += f" + 1 per {self.per}" if self.per else ""
        if not self.backward:
            return f"{bound}{forward}"
        return f"{bound}{forward} + {'' if self.backward == 1 else f'{self.backward} '}backward"


@dataclass(frozen=True)
class Method(ABC):
    """A published explanation: parameters are fields, the record comes in the call.

    Subclasses are frozen dataclasses, one file each, decorated with
    `visattn.methods.METHODS.register`. What they need is declared in class attributes, so that the
    driver can serve several methods from one pass.

    Attributes:
        class_specific: whether the map depends on a target.
        signed: whether negative values mean evidence against the target.
        attention: whether attention operations are needed.
        walks: whether relevance is walked through all steps, not read from single operations.
        gradients: whether gradients of the score are needed.
        gates: kinds of gate that are needed, one of them at least.
        memory: order of the memory beyond the passes themselves; N tokens, H heads, D channels, b
            rows of a block, C channels and P positions of an activation.
        formula: the map in one line, for the table of methods.
        applies: to which models, in words.
        paper: authors, venue, year.
    """

    class_specific: ClassVar[bool] = False
    signed: ClassVar[bool] = False
    attention: ClassVar[bool] = False
    walks: ClassVar[bool] = False
    gradients: ClassVar[bool] = False
    gates: ClassVar[tuple[Kind, ...]] = ()
    memory: ClassVar[str] = "N"
    formula: ClassVar[str] = ""
    applies: ClassVar[str] = "any model"
    paper: ClassVar[str] = ""

    @abstractmethod
    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the maps of a batch; ``geometries`` chain each image's tokens to its photo."""

    def sites(self, adapter: Adapter) -> tuple[Site, ...]:
        """Return the activations that the driver must read for this method."""
        del adapter
        return ()

    def keeps(self) -> tuple[Keep, ...]:
        """Return the gates whose feature maps the driver must keep for this method."""
        return ()

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why the method does not apply to a model with inputs of ``size``, or None."""
        if self.gates:
            return without_gates(adapter, self.gates)
        if not self.attention:
            return None
        chain = chain_of(adapter, size)
        if isinstance(chain, Refusal):
            return chain.reason
        if self.walks and chain.refusal is not None:
            return chain.refusal.reason
        readout, query = chain.readout, getattr(self, "query", None)
        return readout.reason if isinstance(readout, Refusal) and query is None else None

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return what one image with an input of ``size`` costs."""
        del adapter, size
        return Passes(1, int(self.gradients))

    @property
    def rules(self) -> Rules:
        """Rules of the backward pass: those that an option ``backward`` names, else the plain."""
        return rules_named(getattr(self, "backward", "plain"))

    @property
    def additive(self) -> bool:
        """Whether the value of a cell is its share of the score, in units of the score.

        Shares of several cells then add up to what the method says of them together.
        """
        return False

    @property
    def origin(self) -> Any:
        """The baseline, as for `integrated_gradients`, at which an additive map is zero.

        None where that is no input: the whole map has no score that it should add up to.
        """
        return None

    def explains(self, target: Any) -> Any:
        """Return the target whose score is explained, given the one that was asked for."""
        return target

    def options(self) -> dict[str, Any]:
        """Return the parameters by name, for the provenance."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    def changed(self) -> dict[str, Any]:
        """Return the parameters that differ from the defaults, for captions."""
        defaults = {f.name: f.default for f in fields(self)}
        return {name: value for name, value in self.options().items() if value != defaults[name]}

    @classmethod
    def create(cls, name: str, options: dict[str, Any]) -> Method:
        """Build the method from options; unknown ones raise with the nearest known name."""
        return created(cls, name, options, UnsupportedMethodError)


def without_gates(adapter: Adapter, kinds: Sequence[Kind]) -> str | None:
    """Return that a model has no gate of these kinds, and which it has; None where it has one."""
    there = sorted({kind for part in gate_modules(adapter.module) for kind in part.kinds})
    if set(kinds) & set(there):
        return None
    instead = f"its gates are of kind {', '.join(there)}" if there else "it has no gates at all"
    return (
        f"{type(adapter.module).__name__} has no module of a registered class with a "
        f"{' or '.join(kinds)} gate ({instead}; visattn.register_gate adds a class)"
    )
