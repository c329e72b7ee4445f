"""LibraGrad (Mehri, Baghshah & Pilehvar, CVPR 2025)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from visattn.methods.registry import METHODS
from visattn.methods.relevance import Relevance
from visattn.propagation import LIBRA, Rules


@METHODS.register("libragrad")
@dataclass(frozen=True)
class LibraGrad(Relevance):
    """Activations times the gradient of the model that is linear where it only weighs.

    Attention weights, standard deviations of norms and gates g of ``x g(x)`` are constant, and a
    product of two activations hands half of its gradient to each. Then
    ``y = sum x dy/dx + sum_b b dy/d(out_b)`` exactly, over all additive constants b: biases,
    LayerNorm shifts, positions, class and register tokens. ``readout="fullgrad"`` (FullGrad+), the
    paper's best: ``m_t = sum_l (sum_c x^l_tc dy/dx^l_tc + sum_b b dy/d(out_b)_t)`` over the blocks
    l of ``layers`` and the constants inside them, each at the token t that it is added to;
    ``pixels``, ``tokens`` and ``layers`` are input times gradient there. How far the sum of all
    contributions misses the score is measured with ``fullgrad`` and told above 5 %. Signed, in
    units of the score; cost F + B, fused attention stays on. Class-specific.

    Mehri, Baghshah & Pilehvar, CVPR 2025.
    """

    formula: ClassVar[str] = "sum_l (x^l dy/dx^l + sum_b b dy/d(out_b)), [A]cst, [std]cst, x[g]cst"
    paper: ClassVar[str] = "Mehri, Baghshah & Pilehvar, CVPR 2025"

    readout: str = "fullgrad"

    @property
    def rules(self) -> Rules:
        """The rules of Libra; with an account of constants where these are read out."""
        return replace(LIBRA, constants=self.readout == "fullgrad")
