"""AttentionRecord: what one pass of a model computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch

from visattn.adapters import Adapter, Chain, Placement, Refusal, Site, chain_of
from visattn.errors import CaptureError, UnsupportedMethodError
from visattn.images import Image, Size
from visattn.models.preprocessing import Preprocessing
from visattn.observation.activation import Activation
from visattn.observation.gate import Gate, Missed
from visattn.observation.operation import AttentionOperation
from visattn.observation.rerun import Rerun
from visattn.propagation import Ledger


@dataclass(frozen=True, eq=False)
class AttentionRecord:
    """Attention operations in execution order, with activations, outputs and inputs of the pass.

    Attributes:
        operations: every softmax attention of the pass.
        activations: the activations that were asked for, by site.
        inputs: (batch, channel, row, col), as the model saw them.
        outputs: the model's outputs, (batch, class) for a classifier.
        adapter: the model's family.
        images: the photographs.
        rerun: runs the model again on changed inputs; None for a record made by hand.
        preprocessing: how photographs become inputs, where it is known: what black is, and how a
            picture is read back from an input.
        ledger: what additive constants contribute to the score, where the rules keep account.
        gates: channel and spatial gates in execution order, where they were asked for.
        missed: modules of gate classes in which no gate was seen, with the reason.
    """

    operations: tuple[AttentionOperation, ...]
    activations: Mapping[Site, Activation]
    inputs: torch.Tensor
    outputs: torch.Tensor
    adapter: Adapter
    images: tuple[Image, ...] = ()
    rerun: Rerun | None = None
    preprocessing: Preprocessing | None = None
    ledger: Ledger | None = None
    gates: tuple[Gate, ...] = ()
    missed: tuple[Missed, ...] = ()
    _by_name: Mapping[str, AttentionOperation] = field(init=False)
    _placed: dict[tuple[str, int, str], AttentionOperation] = field(
        init=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_name", {op.name: op for op in self.operations})

    def __iter__(self) -> Iterator[AttentionOperation]:
        return iter(self.operations)

    def __len__(self) -> int:
        return len(self.operations)

    def __getitem__(self, key: int | str) -> AttentionOperation:
        if isinstance(key, int):
            return self.operations[key]
        if key not in self._by_name:
            raise CaptureError(f"No attention operation {key!r}; there are {self._found()}.")
        return self._by_name[key]

    @property
    def size(self) -> Size:
        """Height and width of the model's input."""
        return Size(*self.inputs.shape[-2:])

    @property
    def batch(self) -> int:
        """Number of images."""
        return int(self.inputs.shape[0])

    @property
    def indices(self) -> torch.Tensor:
        """Index (batch,) of each image, as `Rerun` takes it."""
        return torch.arange(self.batch, device=self.inputs.device)

    @property
    def again(self) -> Rerun:
        """What runs the model again; raises `CaptureError` where nothing can."""
        if self.rerun is None:
            raise CaptureError("This record was not made by a pass that can be run again.")
        return self.rerun

    def chain(self) -> Chain:
        """Return the walk from the head to the finest grid, checked against what was observed.

        Raises `UnsupportedMethodError` where the family has none, `CaptureError` where an
        operation of the walk was not observed or does not have the tokens that were declared, and
        where an operation was observed that is no part of the walk.
        """
        chain = chain_of(self.adapter, self.size)
        if isinstance(chain, Refusal):
            raise UnsupportedMethodError(f"{chain.reason}.")
        steps = (*chain.steps, chain.pool) if chain.pool else chain.steps
        placements = [placement for step in steps for placement in step.placements]
        declared = {placement.operation for placement in placements}
        for placement in placements:
            self._check(placement)
        missed = [name for name in self._by_name if name not in {*declared, *chain.aside}]
        if missed:
            more = f" and {len(missed) - 1} more" if len(missed) > 1 else ""
            raise CaptureError(
                f"{missed[0]}{more} attended in this pass, but the {self.adapter.family} adapter "
                "gives it no place: a module was added, replaced, or ran several times. A walk "
                "without it would be wrong; describe the model with visattn.register_adapter."
            )
        return chain

    def placed(self, placement: Placement) -> AttentionOperation:
        """Return an operation with its windows in the batch axis: (batch * window, head, ...)."""
        key = (placement.operation, placement.windows, placement.order)
        if key not in self._placed:
            operation = self[placement.operation]
            self._placed[key] = operation.arranged(self.batch, *key[1:])
        return self._placed[key]

    def _check(self, placement: Placement) -> None:
        found = self.placed(placement).shape
        wanted = (self.batch * placement.windows, *placement.slots)
        if (found[0], *found[2:]) != wanted:
            raise CaptureError(
                f"{placement.operation} has {found[0]} x {found[2]} queries and {found[3]} keys "
                f"(windows x queries); the {self.adapter.family} layout declares {wanted[0]} x "
                f"{wanted[1]} and {wanted[2]}."
            )

    def _found(self) -> str:
        return ", ".join(self._by_name) or "none"
