"""Generic attention explainability (Chefer, Gur & Wolf, ICCV 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.adapters import Adapter, Chain, Site, chain_of
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.artefacts import SINK, Artefacts
from visattn.methods.crossing import Crossing
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method
from visattn.methods.positive import positive
from visattn.methods.registry import METHODS
from visattn.methods.residual import kept
from visattn.methods.treatment import (
    Treatment,
    check_treatment,
    treatment_sites,
)
from visattn.methods.walk import Walk, padding_mass
from visattn.observation import AttentionRecord
from visattn.outliers import DEVIATIONS


@METHODS.register("gae")
@dataclass(frozen=True)
class GenericAttentionExplainability(Method):
    """Positive attention times its gradient, accumulated over layers.

    ``E_l = mean_h (G_l * A_l)^+`` (ReLU before the head mean, eq. 5), ``R = (I + E_L) ... (I +
    E_1)`` (eq. 6), map ``(r (R - I))[patches]`` with r the read-out row; no row normalisation. The
    identity is a token's own share: it lies on the class token where there is one, and would only
    add a constant to the map of a mean-pooled model. G is the
    gradient of the explained score by the attention weights, taken as ``<dO, V>`` from the
    gradient at the attention output. Attention-pooling heads are a first step ``r E_pool`` without
    identity, which stays in the map; parallel attentions of one block add up. Windows, merging and
    strided convolutions re-index r and m as in `rollout`. Values >= 0, in units
    of the score. Class-specific.

    ``backward="libra"`` and other named rules take G from a modified backward pass (Mehri et al.,
    CVPR 2025).

    ``outliers`` says what happens to attention sinks and norm outliers among the patch tokens of
    each layer, as in `rollout`: ``keep``, ``mask`` (their columns of E are zero, rows keep their
    sums) or ``redistribute`` (behind each layer the gained relevance on them goes to the other
    patch tokens in proportion to what these have gained).

    Computed as ``m <- m + (r + m) E`` from the last layer to the first: forward, backward and
    4 L N^2 D operations, memory linear in the number of tokens. With a decoder the rows of
    ``R_qq - I`` are summed by a column chain ``u <- u + E u`` and ``y Rbar_qq = y + (y / (u - 1))
    (R_qq - I)`` is one more row: 8 L N^2 D operations, and an M x M matrix for each decoder layer
    of M object queries.

    Chefer, Gur & Wolf, ICCV 2021. The CLIP notebook of the authors uses the last layer only; state
    ``start_layer`` when comparing. Some re-implementations clamp after the head mean.
    """

    class_specific: ClassVar[bool] = True
    attention: ClassVar[bool] = True
    walks: ClassVar[bool] = True
    gradients: ClassVar[bool] = True
    memory: ClassVar[str] = "H b N"
    applies: ClassVar[str] = "attention over tokens"
    formula: ClassVar[str] = "m <- m + (r + m) mean_h (G * A)^+, last layer to first"
    paper: ClassVar[str] = "Chefer, Gur & Wolf, ICCV 2021"

    start_layer: int = 0
    layers: Any = None
    query: Any = None
    outliers: str = "keep"
    sink_factor: float = SINK
    norm_deviations: float = DEVIATIONS
    backward: str = "plain"

    def __post_init__(self) -> None:
        check_treatment("gae", self.outliers, self.sink_factor, self.norm_deviations)

    def sites(self, adapter: Adapter) -> tuple[Site, ...]:
        """Return the tokens behind each block where outliers are not kept."""
        return treatment_sites(self.outliers, adapter)

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why the method does not apply."""
        chain = chain_of(adapter, size)
        if self.outliers != "keep" and isinstance(chain, Chain) and chain.crossed:
            return (
                f"outliers={self.outliers!r} is not defined where relevance is normalised between "
                "an encoder and a decoder (eq. 8 to 10); use outliers='keep'"
            )
        return super().refusal(adapter, size)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the accumulated relevance on the grid."""
        walk = Walk.of(record)
        own = walk.start(self.query, geometries)
        chosen = choose(len(walk.layers), self.layers, self.start_layer)
        artefacts = Artefacts(walk, self.sink_factor, self.norm_deviations)
        treatment = Treatment(self.outliers, artefacts)
        readout = walk.start_name(self.query)
        facts = {"readout": readout, "layers": chosen}
        if walk.chain.crossed:
            gained = Crossing(walk, chosen).row(own, readout)
            return treatment.maps(gained, torch.zeros_like(gained[:, 0]), facts)
        gained = torch.zeros_like(own)
        lost: list[torch.Tensor] = []
        for step, attends in walk.steps(self.query, chosen):
            parts = [
                walk.through(each, own + gained, positive(treatment.masks(step, each)), lost)
                for each in (step.placements if attends else ())
            ]
            own, gained = kept(step, own), kept(step, gained)
            gained = torch.stack([gained, *parts]).sum(dim=0)
            gained = treatment.handed_on(step, gained) if attends else gained
        return treatment.maps(gained, padding_mass(lost, gained.sum(dim=1)), facts)
