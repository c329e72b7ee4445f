"""Gradient rollout (Gildenblat, 2020): rollout of attention times its gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.adapters import Adapter, Site
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.methods.artefacts import SINK, Artefacts
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.methods.transition import Transition, check_share
from visattn.methods.treatment import Treatment, check_treatment, treatment_sites
from visattn.methods.walk import Walk, padding_mass
from visattn.observation import AttentionRecord, RowBlock
from visattn.outliers import DEVIATIONS
from visattn.propagation import rules_named


@METHODS.register("grad_rollout")
@dataclass(frozen=True)
class GradientRollout(Method):
    """Product of the residual matrices of all layers' attention times its own gradient, one row.

    ``W_l = (mean_h A_l * G_l)^+`` (ReLU after the head mean), ``T_l = rownorm(I + W_l)``, map
    ``(r T_L ... T_1)[patches]`` with r the read-out row and G the gradient of the explained score
    by the attention weights of the same layer. Values in 0..1, the row sums to 1 over all tokens
    less what padding takes; they depend on the scale of the score, because W is added to I. In
    mean-pooled models most of a patch's value is its own share of the identity. Attention pooling
    of the head is a first step ``rownorm(W)``. Class-specific. Of the last layer alone
    (``start_layer`` = L - 1) in a class-token model it is that layer's attention times gradient,
    ``(mean_h A * G)^+`` in the class row, up to a factor.

    ``discard_ratio``, ``start_layer``, ``layers``, ``outliers``, windows and stages as in
    `rollout`, the quantile being that of W. ``backward`` names rules of the backward pass.

    Computed as ``q = r / (1 + rowsum W), r <- q + q W`` from the last layer to the first: forward,
    backward and 4 L N^2 D operations, memory linear in the number of tokens (with
    ``discard_ratio`` one layer's W at a time).

    There is no paper: a blog post and code (jacobgil/vit-explain, 2020). That code pairs layer l's
    attention with the gradient of layer L + 1 - l, by the scores before the softmax instead of the
    weights, and discards entries of the class token; published numbers may carry these faults.
    """

    class_specific: ClassVar[bool] = True
    attention: ClassVar[bool] = True
    walks: ClassVar[bool] = True
    gradients: ClassVar[bool] = True
    memory: ClassVar[str] = "H b N"
    applies: ClassVar[str] = "attention over tokens"
    formula: ClassVar[str] = "r <- r rownorm(I + (mean_h A * G)^+), last layer to first"
    paper: ClassVar[str] = "Gildenblat, blog post and code, 2020"

    discard_ratio: float = 0.0
    start_layer: int = 0
    layers: Any = None
    query: Any = None
    outliers: str = "keep"
    sink_factor: float = SINK
    norm_deviations: float = DEVIATIONS
    backward: str = "plain"

    def __post_init__(self) -> None:
        check_treatment("grad_rollout", self.outliers, self.sink_factor, self.norm_deviations)
        check_share("grad_rollout", "discard_ratio", self.discard_ratio)
        rules_named(self.backward)

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
        transition = Transition(0.5, _weights, treatment, self.discard_ratio)
        for step, attends in walk.steps(self.query, chosen):
            row = transition(step, row, attends)
        facts = {"readout": walk.start_name(self.query), "layers": chosen}
        return treatment.maps(row, padding_mass(transition.lost, row.sum(dim=1)), facts)


def _weights(block: RowBlock) -> torch.Tensor:
    """Return ``(mean_h A * G)^+`` (batch, row, key)."""
    if block.gradient is None:
        raise UnsupportedMethodError("The attention was observed without gradients.")
    return (block.attn * block.gradient).mean(dim=1).clamp_(min=0)
