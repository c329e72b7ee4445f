"""Blocks: the residual blocks of a plain transformer, and what their stream holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import ClassVar

import torch
from torch import nn

from visattn.adapters import Adapter, Block, Chain, Refusal, Site, Step, chain_of
from visattn.images import Size
from visattn.methods.method import Method
from visattn.methods.values import Values
from visattn.methods.walk import Walk
from visattn.observation import AttentionRecord, wide


@dataclass(frozen=True)
class StreamMethod(Method):
    """A walk whose formula reads the token stream of a plain transformer and its values.

    Only families with one stream of tokens, whose pre-norm blocks add the projected heads of one
    attention to it, are served; all others are refused with the reason. The value of an attention
    pool is read at the tokens behind the last block.

    Attributes:
        sequential: whether the MLP must stand behind the attention, not beside it.
    """

    attention: ClassVar[bool] = True
    walks: ClassVar[bool] = True
    applies: ClassVar[str] = "plain pre-norm transformers"
    sequential: ClassVar[bool] = False

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why the formula says nothing about a model, or None."""
        reason = super().refusal(adapter, size)
        if reason is not None:
            return reason
        stream, chain = adapter.stream(), chain_of(adapter, size)
        if isinstance(stream, Refusal) or isinstance(chain, Refusal):
            return stream.reason if isinstance(stream, Refusal) else None
        steps = chain.steps
        if chain.pool is not None and getattr(self, "query", None) is None:
            steps = (*steps, chain.pool)
        for name in (placed.operation for step in steps for placed in step.placements):
            if not _projects(adapter.module.get_submodule(name)):
                return f"{name} has no output projection that writes its values into the stream"
        return _unfit(stream.blocks, chain, self.sequential)


def _projects(part: nn.Module) -> bool:
    return any(isinstance(each, nn.Linear) for each in part.modules())


def _unfit(blocks: Sequence[Block], chain: Chain, sequential: bool) -> str | None:
    """Return why blocks and the steps of a walk do not fit a formula, or None."""
    for block in blocks:
        if len(block.operations) > 1:
            return (
                f"{block.before.module} runs {len(block.operations)} attentions side by side, and "
                "the formula is written for one with one output projection"
            )
        if sequential and block.between is None:
            return (
                f"{block.before.module} runs its MLP beside its attention, and the formula is "
                "written for an MLP behind it"
            )
    walked = [placed.operation for step in chain.steps for placed in step.placements]
    if walked != [block.operations[0] for block in blocks] or len(walked) != len(chain.steps):
        return "its walk has other steps than the blocks of its stream"
    return None


def blocks_of(adapter: Adapter) -> tuple[Block, ...]:
    """Return the blocks of a stream, none where there is no stream."""
    stream = adapter.stream()
    return () if isinstance(stream, Refusal) else stream.blocks


def block_of(walk: Walk, step: Step) -> Block:
    """Return the block that a step is; the head's attention pool is none."""
    return blocks_of(walk.record.adapter)[walk.place(step)]


def tokens_into(adapter: Adapter, place: int) -> Site:
    """Return where the tokens that enter a step are read; the head's pool stands behind all."""
    blocks = blocks_of(adapter)
    return blocks[place].before if place < len(blocks) else blocks[-1].after


def values_of(walk: Walk, step: Step) -> Values:
    """Return what the values of a step's attention write into the stream."""
    name = None if step is walk.chain.pool else block_of(walk, step).scale
    scale = None if name is None else attrgetter(name)(walk.record.adapter.module)
    return Values.of(walk.operation(step.placements[0]), scale)


def read(record: AttentionRecord, site: Site) -> torch.Tensor:
    """Return the activation at a site, in float32 or wider."""
    return wide(record.activations[site].value)
