"""Token drop: a transformer runs on the tokens that are kept, nothing stands for the others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch

from visattn.adapters import Chain, Readout, Refusal, TokenLayout, chain_of
from visattn.errors import UnsupportedMethodError
from visattn.evaluation.bench import Bench
from visattn.evaluation.replacements.registry import REPLACEMENTS
from visattn.evaluation.replacements.replacement import Filling, Replacement, Variant
from visattn.evaluation.sample import Sample
from visattn.evaluation.units import Units
from visattn.images import Size
from visattn.models import Model
from visattn.observation import dropping, refusal_to_drop


@REPLACEMENTS.register("tokens")
@dataclass(frozen=True)
class Tokens(Replacement):
    """Patches are left out behind the patch embedding, after positions were added.

    Prefix tokens always stay, and pooling is over the tokens that remain: exactly the model with
    attention to and pooling of the removed patches masked out, at the cost of the kept ones. Inputs
    with equally many kept tokens share a batch, across samples. Units are the model's patches. For
    plain transformers only: windows, relative positions and rotary ones are refused.
    """

    def refusal(self, model: Model, size: Size, everything: bool = False) -> str | None:
        """Return why tokens cannot be left out, or None."""
        reason = refusal_to_drop(model.adapter)
        chain = chain_of(model.adapter, size)
        if reason is None and isinstance(chain, Refusal):
            reason = chain.reason
        elif reason is None and isinstance(chain, Chain):
            reason = _unfit(model, size, chain, everything)
        return None if reason is None else f"fill=tokens: {reason}"

    def filling(self, model: Model, sample: Sample) -> Filling:
        """Raise `UnsupportedMethodError`: no input shows what a model without tokens sees."""
        raise UnsupportedMethodError(f"{model.name} without tokens of {sample.name} has no input.")

    def outputs(self, bench: Bench, variants: Iterable[Variant]) -> Iterator[torch.Tensor]:
        """Yield the output of each variant, in order; inputs are packed by their kept tokens."""
        known = list(variants)
        found: dict[int, torch.Tensor] = {}
        keys = [(*each.sample.prepared.tensor.shape, int(each.removed.sum())) for each in known]
        places = sorted(range(len(known)), key=keys.__getitem__)
        for _, group in groupby(places, key=keys.__getitem__):
            alike = list(group)
            for start in range(0, len(alike), bench.batch_size):
                part = alike[start : start + bench.batch_size]
                found.update(zip(part, self._run(bench, [known[i] for i in part]), strict=True))
        return (found[place] for place in range(len(known)))

    def _run(self, bench: Bench, variants: Sequence[Variant]) -> Iterator[torch.Tensor]:
        """Yield the outputs of variants with equally many kept tokens."""
        model, sample = bench.model, variants[0].sample
        layout = model.adapter.layout(sample.size)
        if isinstance(layout, Refusal):
            raise UnsupportedMethodError(f"fill=tokens: {layout.reason}")
        kept = torch.stack([_kept(layout, variant) for variant in variants])
        batch = model.stack([variant.sample.prepared for variant in variants])
        with dropping(model.adapter, kept):
            outputs = bench.run(batch)
        yield from torch.split(outputs, 1)


def _kept(layout: TokenLayout, variant: Variant) -> torch.Tensor:
    """Return the places (kept,) of tokens that stay, in their order."""
    stays = np.ones(layout.tokens, bool)
    stays[layout.places] = ~variant.removed
    return torch.from_numpy(np.flatnonzero(stays))


def _unfit(model: Model, size: Size, chain: Chain, everything: bool) -> str | None:
    layout, readout = chain.end, chain.readout
    if Units.of(model, size).shape != layout.grid:
        return "the model's patches are no whole pixels"
    ends = isinstance(readout, Readout) and chain.pool is None
    prefix = len(layout.prefix)
    if everything and not (ends and isinstance(readout, Readout) and readout.row[:prefix].any()):
        return (
            "the head pools patches, so that nothing is left to read where all are removed; use "
            "another fill, or a metric that keeps some"
        )
    return None
