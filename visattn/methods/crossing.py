"""Relevance from a decoder's object queries to the patches that they read (eq. 6 to 10 of gae)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, chain

import torch

from visattn.adapters import Placement
from visattn.errors import UnsupportedMethodError
from visattn.methods.positive import positive, positive_rows
from visattn.methods.walk import Walk
from visattn.observation import AttentionOperation


@dataclass(frozen=True, eq=False)
class Crossing:
    """Rules of Chefer, Gur & Wolf, ICCV 2021, for an encoder and a decoder, one row of them.

    The stream holds object queries s as prefix tokens, then patches q. Of the chosen ``layers`` the
    relevance ``E = mean_h (G * A)^+`` counts; in the others it is zero.
    """

    walk: Walk
    layers: Collection[int]

    def row(self, start: torch.Tensor, name: str) -> torch.Tensor:
        """Return ``start_s R_sq + start_q (R_qq - I)``, with nothing on object queries.

        Rows over the stream are (batch, token); ``name`` says in words what ``start`` is. Raises
        `UnsupportedMethodError` where the score does not depend on the object queries of ``start``.
        """
        own = start.clone()
        own[:, : self._objects] = 0
        asked = start - own
        self._require_scored(asked, name)
        read = self._read(asked)
        gained = self._gained(torch.ones_like(own))
        shares = torch.where(gained > 0, read / gained.where(gained > 0, 1.0), 0.0)
        row = shares + own
        for placement in reversed(self._encoder):
            row = row + self.walk.through(placement, row, positive())
        return read + row - shares - own

    def _read(self, asked: torch.Tensor) -> torch.Tensor:
        """Return ``asked Y`` with ``R_sq = Y Rbar_qq``, from the last decoder layer to the first.

        ``Y <- Y + E Y`` in self-attention, ``Y <- Y + Rbar_ss^T E`` in cross-attention.
        """
        read, own = torch.zeros_like(asked), slice(self._objects)
        for placement, mixed in reversed(list(zip(self._decoder, self._mixed, strict=True))):
            if not self._crosses(placement):
                asked = asked + self.walk.through(placement, asked, positive())
                continue
            handed = torch.zeros_like(asked)
            handed[:, own] = torch.einsum("bs,bts->bt", asked[:, own], _row_normalised(mixed))
            read = read + self.walk.through(placement, handed, positive())
        return read

    def _gained(self, column: torch.Tensor) -> torch.Tensor:
        """Return ``(R_qq - I) u`` of a column u (batch, token): what patches add up to."""
        summed = column
        for placement in self._encoder:
            slots = placement.keys.transposed()(summed).reshape(-1, placement.slots[1])
            moved = _times_column(self.walk.operation(placement), slots)
            moved = moved.reshape(len(column), -1)
            summed = summed + placement.queries.transposed()(moved)
        return summed - column

    @property
    def _mixed(self) -> list[torch.Tensor]:
        """``R_ss`` (batch, query, query) behind each operation of the decoder."""

        def behind(relevance: torch.Tensor, placement: Placement) -> torch.Tensor:
            if self._crosses(placement):
                return relevance
            operation = self.walk.operation(placement)
            blocks = [positive_rows(operation, block) for block in operation.row_blocks()]
            return relevance + torch.cat(blocks, dim=1) @ relevance

        like = self.walk.start("mean", ())
        eye = torch.eye(self._objects).to(like).expand(len(like), -1, -1)
        return list(accumulate(self._decoder, behind, initial=eye))[1:]

    def _require_scored(self, asked: torch.Tensor, name: str) -> None:
        (last,) = self.walk.chain.steps[self.walk.layers[-1]].placements
        gradient = self.walk.operation(last).output_gradient
        if gradient is None:
            return
        scored = gradient.ne(0).any(dim=3).any(dim=1)
        here = last.queries(asked) > 0
        if (here.any(dim=1) & ~(here & scored).any(dim=1)).any():
            objects = scored.any(dim=0).nonzero().reshape(-1).tolist()
            depends = ", ".join(self.walk.chain.layout.prefix[index] for index in objects[:3])
            raise UnsupportedMethodError(
                f"The explained score does not depend on {name}, but on {depends or 'no object'}: "
                "give a target that scores the object of the query, such as "
                "lambda outputs: outputs[:, 7, 1] for query='object 7'."
            )

    @property
    def _objects(self) -> int:
        return len(self.walk.chain.layout.prefix)

    @cached_property
    def _walked(self) -> list[Placement]:
        steps = (self.walk.chain.steps[self.walk.layers[layer]] for layer in self.layers)
        return list(chain.from_iterable(step.placements for step in steps))

    @property
    def _encoder(self) -> list[Placement]:
        return [placement for placement in self._walked if self._of_patches(placement)]

    @property
    def _decoder(self) -> list[Placement]:
        return [placement for placement in self._walked if not self._of_patches(placement)]

    def _of_patches(self, placement: Placement) -> bool:
        return bool(placement.queries.sums[self.walk.chain.layout.places].any())

    def _crosses(self, placement: Placement) -> bool:
        return bool((placement.keys.columns >= self._objects).any())


def _row_normalised(relevance: torch.Tensor) -> torch.Tensor:
    """Return ``rownorm(R - I) + I`` (eq. 8, 9); rows of ``R - I`` that are zero stay zero."""
    eye = torch.eye(relevance.shape[-1]).to(relevance)
    gained = relevance - eye
    sums = gained.sum(dim=-1, keepdim=True)
    return gained / sums.where(sums > 0, 1.0) + eye


def _times_column(operation: AttentionOperation, column: torch.Tensor) -> torch.Tensor:
    """Return ``E u``: (batch, key) -> (batch, query)."""
    blocks = (positive_rows(operation, block) for block in operation.row_blocks())
    return torch.cat([torch.einsum("bqk,bk->bq", rows, column) for rows in blocks], dim=1)
