"""CP-LRP (Ali et al., ICML 2022)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from visattn.methods.pixels import require_choice
from visattn.methods.registry import METHODS
from visattn.methods.relevance import Relevance, require_gamma
from visattn.propagation import CP_LRP, Rules


@METHODS.register("cp_lrp")
@dataclass(frozen=True)
class CpLrp(Relevance):
    """Relevance through values only: attention weights and standard deviations are constant.

    ``m = sum_c x_c dy/dx_c`` of the model with ``O = [A]cst V`` and LayerNorm
    ``w (x - mean x) / [std]cst + b``; linear layers by the epsilon rule with epsilon -> 0, or by
    the gamma rule (``gamma_linear``, ``gamma_convolution``). The gradient of activation functions
    is the plain one; ``activation="gate"`` makes ``x g(x)`` linear (``x [g]cst``). Signed, in units
    of the score; cost F + B, fused attention stays on. Class-specific.

    Ali et al., ICML 2022 (text models). LRP is called patented, and free for personal and
    scientific use, by the authors of the LXT package.
    """

    formula: ClassVar[str] = "sum_c x_c dy/dx_c with [A]cst, [std]cst"
    paper: ClassVar[str] = "Ali et al., ICML 2022"

    activation: str = "plain"
    gamma_linear: float = 0.0
    gamma_convolution: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_gamma(gamma_linear=self.gamma_linear, gamma_convolution=self.gamma_convolution)
        require_choice(self, "activation", ("plain", "gate"))

    @property
    def rules(self) -> Rules:
        """Value path, constant standard deviation, gamma on linear layers."""
        return replace(
            CP_LRP,
            activation=self.activation,
            linear=self.gamma_linear,
            convolution=self.gamma_convolution,
            constants=self.readout == "fullgrad",
        )
