"""Bilinear attentional transforms (Chi et al., CVPR 2020): one mixing matrix per image axis."""

from __future__ import annotations

from visattn.gates.family import GateFamily
from visattn.gates.registry import GATES


@GATES.register("bilinear_attention")
class BilinearAttention(GateFamily):
    """``P x Q`` with rows of P and columns of Q that sum to one.

    Drawn is what the mean output position receives from each input position,
    ``mean_i P[i, k] * mean_j Q[l, j]``, mean over channels: a distribution.
    """

    family = "bilinear_attention"
    classes = (("timm.layers.non_local_attn", "BilinearAttnTransform"),)
    kinds = ("distribution",)
    mixing = True
    paper = "Chi, Yuan & Mu, CVPR 2020"
