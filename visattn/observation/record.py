"""AttentionRecord: what one pass of a model computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch

from visattn.adapters import Adapter, Chain, Readout, Refusal, Site
from visattn.errors import CaptureError, UnsupportedMethodError
from visattn.images import Image, Size
from visattn.observation.activation import Activation
from visattn.observation.operation import AttentionOperation

ScoreFunction = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


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
        score: ``(inputs, image indices) -> scores (batch,)``, runs the model again; None for
            class-agnostic passes. It is not saved with the record.
    """

    operations: tuple[AttentionOperation, ...]
    activations: Mapping[Site, Activation]
    inputs: torch.Tensor
    outputs: torch.Tensor
    adapter: Adapter
    images: tuple[Image, ...] = ()
    score: ScoreFunction | None = None
    _by_name: Mapping[str, AttentionOperation] = field(init=False)

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

    def chain(self) -> Chain:
        """Return the walk from the head to the token grid, checked against what was observed.

        Raises `UnsupportedMethodError` where the family has none, `CaptureError` where an
        operation of the walk was not observed or does not have the tokens that were declared.
        """
        chain = self.adapter.chain(self.size)
        if isinstance(chain, Refusal):
            raise UnsupportedMethodError(f"{chain.reason}.")
        for name in (name for block in chain.blocks for name in block):
            self._check(name, chain.layout.tokens, chain.layout.tokens)
        readout = chain.readout
        if isinstance(readout, Readout) and readout.pool:
            read = chain.layout.tokens - readout.reads_from
            self._check(readout.pool, readout.row.shape[0], read)
        return chain

    def _check(self, name: str, queries: int, keys: int) -> None:
        shape = self[name].shape
        times = sum(operation.name == name for operation in self.operations)
        if times > 1:
            raise CaptureError(
                f"{name} ran {times} times in one pass, so it is not clear which of them to walk."
            )
        if shape[2:] != (queries, keys):
            raise CaptureError(
                f"{name} attends from {shape[2]} to {shape[3]} tokens; the "
                f"{self.adapter.family} layout declares {queries} and {keys}."
            )

    def _found(self) -> str:
        return ", ".join(self._by_name) or "none"
