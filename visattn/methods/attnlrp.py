"""AttnLRP (Achtibat et al., ICML 2024)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from visattn.methods.pixels import require_choice
from visattn.methods.registry import METHODS
from visattn.methods.relevance import Relevance, require_gamma
from visattn.propagation import ATTNLRP, Rules


@METHODS.register("attnlrp")
@dataclass(frozen=True)
class AttnLrp(Relevance):
    """Relevance through values and softmax: products are halved between their factors.

    ``m = sum_c x_c dy/dx_c`` on one backward pass in which ``O = A V`` and ``S = Q K^T`` hand half
    of their gradient to each factor (queries and keys 1/4, values 1/2 of the plain one), standard
    deviations of norms and gates g of ``x g(x)`` are constant, and linear layers follow the epsilon
    rule with epsilon -> 0 or the gamma rule (``gamma_linear``, ``gamma_convolution``). The softmax
    rule, ``R_i = x_i (R_i' - s_i sum_j R_j')``, is its plain gradient; it loses relevance by
    design, so maps do not add up to the score. ``attention_rule="value"`` with gammas is what the
    authors' own vision example runs, because gradients through the softmax shatter in vision
    transformers: published numbers differ by configuration. Signed, in units of the score; cost
    F + B, fused attention stays on. Class-specific.

    Achtibat et al., ICML 2024; as modified gradients Arras et al., 2025. LRP is called patented,
    and free for personal and scientific use, by the authors of the LXT package.
    """

    formula: ClassVar[str] = "sum_c x_c dy/dx_c with dA, dS halved, [std]cst, x[g]cst"
    paper: ClassVar[str] = "Achtibat et al., ICML 2024"

    attention_rule: str = "half"
    gamma_linear: float = 0.0
    gamma_convolution: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_gamma(gamma_linear=self.gamma_linear, gamma_convolution=self.gamma_convolution)
        require_choice(self, "attention_rule", ("half", "value"))

    @property
    def rules(self) -> Rules:
        """The rules of AttnLRP with this method's attention rule and gammas."""
        return replace(
            ATTNLRP,
            attention=self.attention_rule,
            linear=self.gamma_linear,
            convolution=self.gamma_convolution,
            constants=self.readout == "fullgrad",
        )
