"""What a walk does with artefact tokens: keep, mask or redistribute."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from visattn.adapters import Adapter, Placement, Site, Step
from visattn.errors import UnsupportedMethodError, suggestion
from visattn.methods.artefacts import Artefacts
from visattn.methods.method import Maps
from visattn.methods.walk import padding_notes

TREATMENTS = ("keep", "mask", "redistribute")


@dataclass(frozen=True, eq=False)
class Treatment:
    """How a walk treats the patch tokens that `Artefacts` flags in each layer it walks.

    ``keep`` leaves them. ``mask`` sets their columns of the layer's matrix to zero and scales each
    row so that it keeps its sum; a row that goes to flagged tokens alone stays as it is.
    ``redistribute`` hands their relevance to the image's other patch tokens in proportion to those
    tokens' own relevance, whose sum stays the same. Prefix tokens are never flagged and never
    receive. Definitions of this package.
    """

    kind: str
    artefacts: Artefacts
    _flagged: dict[Step, torch.Tensor] = field(default_factory=dict, init=False)

    def flagged(self, step: Step) -> torch.Tensor:
        """Return the flagged patch tokens (batch, patch) of a step that is walked."""
        if step not in self._flagged:
            self._flagged[step] = self.artefacts.flagged(step)
        return self._flagged[step]

    def masks(self, step: Step, placement: Placement) -> torch.Tensor | None:
        """Return the share (batch * window, key) of each key that stays, None unless masking."""
        if self.kind != "mask":
            return None
        flagged = self.flagged(step)
        row = flagged.new_zeros(len(flagged), step.before.tokens, dtype=torch.float64)
        row[:, step.before.places] = flagged.double()
        hidden = placement.keys.transposed()(row)
        return 1 - hidden.reshape(-1, placement.slots[1])

    def handed_on(self, step: Step, row: torch.Tensor) -> torch.Tensor:
        """Return a row (batch, token before) without relevance on flagged tokens if it must go."""
        if self.kind != "redistribute":
            return row
        flagged, places = self.flagged(step), step.before.places
        patches = row[:, places]
        own = patches.masked_fill(flagged, 0.0)
        total = own.sum(dim=1, keepdim=True)
        spread = own * (patches.sum(dim=1, keepdim=True) / total.where(total > 0, 1.0))
        moved = row.clone()
        moved[:, places] = torch.where(total > 0, spread, patches)
        return moved

    def maps(self, row: torch.Tensor, padding: torch.Tensor, facts: dict[str, Any]) -> Maps:
        """Return the map of a walk that ended in ``row``, with what was treated and lost.

        ``padding`` (batch,) is the share of relevance that padding took.
        """
        layout = self.artefacts.walk.chain.layout
        treated, told = self.measured(), self.notes() or [[] for _ in padding]
        shares = padding.clamp(min=0).tolist()
        return Maps(
            layout.to_grid(row),
            layout.cell,
            warnings=[[*one, *two] for one, two in zip(told, padding_notes(padding), strict=True)],
            facts=facts,
            measured=[
                {"padding_mass": round(share, 6), **each}
                for share, each in zip(shares, treated, strict=True)
            ],
        )

    def measured(self) -> list[dict[str, Any]]:
        """Return for each image how many tokens were treated in which operations."""
        batch = self.artefacts.walk.record.batch
        if self.kind == "keep":
            return [{} for _ in range(batch)]
        counts: list[dict[str, int]] = [{} for _ in range(batch)]
        for step, flagged in reversed(self._flagged.items()):
            name = ", ".join(placed.operation for placed in step.placements)
            for image, count in zip(counts, flagged.sum(dim=1).tolist(), strict=True):
                if count:
                    image[name] = count
        rules = [f"attention > {self.artefacts.sink:g}/N"]
        if self.artefacts.norms:
            rules.append(f"norm > median + {self.artefacts.deviations:g} * 1.4826 MAD")
        return [{"outlier_rule": " or ".join(rules), "outliers_treated": c} for c in counts]

    def notes(self) -> list[list[str]]:
        """Return for each image what a reader must know about the treatment."""
        verb = {"mask": "masked", "redistribute": "redistributed"}.get(self.kind)
        if verb is None:
            return []
        found = [image["outliers_treated"] for image in self.measured()]
        return [
            [f"outliers={self.kind}: {sum(c.values())} tokens {verb} in {len(c)} layers"]
            for c in found
        ]


def masked(fused: torch.Tensor, stays: torch.Tensor | None) -> torch.Tensor:
    """Return a matrix (batch, query, key) with hidden columns at zero and its rows' sums kept."""
    if stays is None:
        return fused
    left = fused * stays.to(fused)[:, None, :]
    sums, rest = fused.sum(dim=-1, keepdim=True), left.sum(dim=-1, keepdim=True)
    return torch.where(rest > 0, left * (sums / rest.where(rest > 0, 1.0)), fused)


def check_treatment(name: str, outliers: Any, sink: Any, deviations: Any) -> None:
    """Raise `UnsupportedMethodError` for options of a method that name no treatment."""
    if outliers not in TREATMENTS:
        raise UnsupportedMethodError(
            f"{name}: outliers={outliers!r} is no treatment."
            + suggestion(str(outliers), TREATMENTS)
        )
    for option, value in (("sink_factor", sink), ("norm_deviations", deviations)):
        if not isinstance(value, (int, float)) or not value > 0:
            raise UnsupportedMethodError(f"{name}: {option}={value!r} is not a positive number.")


def treatment_sites(outliers: str, adapter: Adapter) -> tuple[Site, ...]:
    """Return the activations that a treatment needs: the tokens behind each block."""
    if outliers == "keep":
        return ()
    return tuple(site for site in adapter.block_sites() if site is not None)
