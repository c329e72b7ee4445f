"""Adapter: what visattn must know about one architecture family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from visattn.adapters.memory import chain_of
from visattn.errors import UnsupportedMethodError
from visattn.images import Size
from visattn.tokens.chain import Chain, Refusal
from visattn.tokens.layout import TokenLayout


@dataclass(frozen=True)
class Site:
    """A place in a module tree where an activation can be read.

    Attributes:
        module: dotted name.
        side: whether the module's first input or its output is meant.
        axes: ``tokens`` for (batch, token, channel), ``channels_first`` for (batch, channel, row,
            col), ``channels_last`` for (batch, row, col, channel).
        norm: whether only the Euclidean norms over channels are kept, without gradient; they cost
            no memory worth mentioning.
    """

    module: str
    side: Literal["input", "output"]
    axes: Literal["tokens", "channels_first", "channels_last"]
    norm: bool = False

    def __str__(self) -> str:
        return f"{self.side} of {self.module}"


class Adapter(ABC):
    """Facts about one model, read from its own attributes.

    A family is one file with one subclass, decorated with `visattn.adapters.ADAPTERS.register`.

    Attributes:
        family: its name.
        general: whether it stands back where another family claims a module.
    """

    family: ClassVar[str]
    general: ClassVar[bool] = False

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @classmethod
    @abstractmethod
    def matches(cls, module: nn.Module) -> bool:
        """Return whether the family's facts hold for ``module``."""

    @abstractmethod
    def chain(self, size: Size) -> Chain | Refusal:
        """Return the walk from head to token grid for an input of ``size``, or why there is none.

        ``size`` is the height and width of the model's input in pixels.
        """

    def layout(self, size: Size) -> TokenLayout | Refusal:
        """Return what the tokens at the site of `cam_site` mean: those that enter the head."""
        chain = chain_of(self, size)
        return chain if isinstance(chain, Refusal) else chain.end

    @abstractmethod
    def cam_site(self) -> Site | Refusal:
        """Return the activation that class activation maps use by default."""

    def block_sites(self) -> tuple[Site | None, ...]:
        """Return where the tokens behind each step of the chain can be read, for their norms.

        None for a step where they cannot; nothing at all for a family that does not say.
        """
        return ()

    def grid(self, size: Size) -> tuple[Size, tuple[float, float]]:
        """Return the natural grid of maps, the finest of the walk, and its cells in input pixels.

        Raises `UnsupportedMethodError` where the family has no walk.
        """
        chain = chain_of(self, size)
        if isinstance(chain, Refusal):
            raise UnsupportedMethodError(f"{chain.reason}.")
        return chain.layout.grid, chain.layout.cell

    @property
    def num_features(self) -> int | None:
        """Number of channels that the head reads, None where it is not known."""
        found = getattr(self.module, "num_features", None)
        return found if isinstance(found, int) else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of every map of this model must know."""
        return ()

    @property
    def num_classes(self) -> int | None:
        """Number of classes, 0 for a model without classifier, None where it is not known."""
        found = getattr(self.module, "num_classes", None)
        return found if isinstance(found, int) else None
