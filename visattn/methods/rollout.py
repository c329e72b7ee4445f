"""Attention rollout (Abnar & Zuidema, ACL 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from visattn.adapters import Adapter, Site
from visattn.geometry import Geometry
from visattn.methods.artefacts import SINK, Artefacts
from visattn.methods.heads import fuse
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.methods.transition import Transition, check_share
from visattn.methods.treatment import Treatment, check_treatment, treatment_sites
from visattn.methods.walk import Walk
from visattn.observation import AttentionRecord
from visattn.outliers import DEVIATIONS


@METHODS.register("rollout")
@dataclass(frozen=True)
class Rollout(Method):
    """Product of the residual attention matrices of all layers, one row of it.

    ``T_l = rownorm(rho I + (1 - rho) fuse_h A_l)``, map ``(r T_L ... T_1)[patches]`` with r the
    read-out row and rho = ``residual`` (1/2 in the paper). ``heads`` fuses by mean (paper), max,
    min, or chosen heads; ``start_layer`` drops the first layers; ``layers`` keeps chosen ones.
    ``discard_ratio`` > 0 (an addition of the vit-explain code, not in the paper) sets the entries
    below that quantile of each layer's patch-to-patch weights to zero before the identity is added;
    rows and columns of prefix tokens are never touched. The row sums to 1 over all tokens, prefix
    included, less what padded windows take (``padding_mass`` in the provenance). Parallel
    attentions of one block are averaged. Class-agnostic.

    In windowed and hierarchical models a layer is ``rho S + (1 - rho) Q fuse(A) K`` with the
    placement of tokens in query and key slots and the residual path S; merging and strided
    convolutions hand relevance to what they read. No paper validates rollout across stages: it is
    the same product, shown as an approximation.

    ``outliers`` says what happens to attention sinks (more than ``sink_factor`` / N attention on
    average) and norm outliers (median + ``norm_deviations`` * 1.4826 MAD) among the patch tokens of
    each layer: ``keep``, ``mask`` (their columns of ``fuse A`` are zero, rows keep their sums) or
    ``redistribute`` (behind each layer their relevance goes to the other patch tokens in proportion
    to what these have). Both are additions of this package, recorded in warnings and provenance.

    Computed as ``q = r / rowsum, r <- rho q + (1 - rho) q fuse(A)`` from the last layer to the
    first: 2 L N^2 D operations, memory linear in the number of tokens (with ``discard_ratio`` one
    layer's fused N x N weights at a time, and N at most 4096).

    Abnar & Zuidema, ACL 2020. Common code starts at layer 1, divides columns by row sums, or
    discards entries of the prefix tokens; none of that happens here.
    """

    attention: ClassVar[bool] = True
    memory: ClassVar[str] = "H b N"
    applies: ClassVar[str] = "attention over tokens"
    walks: ClassVar[bool] = True
    formula: ClassVar[str] = (
        "r <- r rownorm(rho I + (1 - rho) fuse A), last layer to first, rho = 1/2"
    )
    paper: ClassVar[str] = "Abnar & Zuidema, ACL 2020"

    residual: float = 0.5
    discard_ratio: float = 0.0
    start_layer: int = 0
    layers: Any = None
    heads: Any = "mean"
    query: Any = None
    outliers: str = "keep"
    sink_factor: float = SINK
    norm_deviations: float = DEVIATIONS

    def __post_init__(self) -> None:
        check_treatment("rollout", self.outliers, self.sink_factor, self.norm_deviations)
        for option in ("residual", "discard_ratio"):
            check_share("rollout", option, getattr(self, option))

    def sites(self, adapter: Adapter) -> tuple[Site, ...]:
        """Return the tokens behind each block where outliers are not kept."""
        return treatment_sites(self.outliers, adapter)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the rolled-out row on the grid."""
        walk = Walk.of(record)
        row = walk.start(self.query, geometries)
        chosen = choose(len(walk.layers), self.layers, self.start_layer)
        artefacts = Artefacts(walk, self.sink_factor, self.norm_deviations)
        treatment = Treatment(self.outliers, artefacts)
        transition = Transition(
            self.residual,
            lambda block: fuse(block.attn, self.heads),
            treatment,
            self.discard_ratio,
            stochastic=self.heads == "mean",
        )
        for step, attends in walk.steps(self.query, chosen):
            row = transition(step, row, attends)
        facts = {"readout": walk.start_name(self.query), "layers": chosen}
        return treatment.maps(row, 1 - row.sum(dim=1), facts)
