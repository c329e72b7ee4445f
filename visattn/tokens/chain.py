"""The way back: from the tokens that the head reads to the finest grid, step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from visattn.tokens.layout import TokenLayout
from visattn.tokens.step import Step

TALKING = "heads are mixed behind their softmax (talking heads): walked is the softmax before that"


@dataclass(frozen=True)
class Refusal:
    """Why something does not exist for a model, and what would work instead."""

    reason: str


@dataclass(frozen=True, eq=False)
class Readout:
    """Which tokens the head reads.

    Attributes:
        description: in words, for captions and reports.
        row: weights (token,) over the tokens of the last stream, summing to 1; with a pooling step,
            over its queries instead.
    """

    description: str
    row: torch.Tensor


@dataclass(frozen=True, eq=False)
class Chain:
    """Steps between the finest grid and the head.

    Attributes:
        steps: in the order of the forward pass.
        end: meaning of the tokens after the last step.
        readout: where the walk starts, or why the head reads no fixed row of tokens.
        pool: the attention pooling of the head, whose keys are the tokens of ``end``, or None.
        refusal: why a walk through all steps says nothing about this model, or None. Single
            operations can still be shown.
        notes: approximations that a reader of every walk must know.
        crossed: whether a decoder's queries read the image by cross-attention, for which some
            methods have rules of their own.
        aside: attention operations that are no step of the walk, and why.
    """

    steps: tuple[Step, ...]
    end: TokenLayout
    readout: Readout | Refusal
    pool: Step | None = None
    refusal: Refusal | None = None
    notes: tuple[str, ...] = ()
    crossed: bool = False
    aside: Mapping[str, str] = field(default_factory=dict)

    @property
    def layout(self) -> TokenLayout:
        """Meaning of the tokens where the walk ends."""
        return self.steps[0].before if self.steps else self.end

    @property
    def layers(self) -> tuple[int, ...]:
        """Places among the steps of those with attention, first layer first."""
        return tuple(i for i, step in enumerate(self.steps) if step.placements)

    def after(self, place: int) -> TokenLayout:
        """Return the meaning of the tokens behind the step at ``place``."""
        return self.steps[place + 1].before if place + 1 < len(self.steps) else self.end
