"""ResLRP (Berend et al., 2026)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from visattn.methods.registry import METHODS
from visattn.methods.relevance import Relevance, require_gamma
from visattn.propagation import RESLRP, Rules


@METHODS.register("reslrp")
@dataclass(frozen=True)
class ResLrp(Relevance):
    """AttnLRP with a rule for residual sums, where what cancels would make relevance explode.

    At ``z = z_in + z_up`` with ``w(z') = 1 + gamma 1[sign z' = sign z]``, ``R_in = w(z_in) z_in /
    (w(z_in) z_in + w(z_up) z_up) R``, R_up with the roles swapped, both 0 where z = 0: conserved
    exactly, and ``|R_in| + |R_up| <= (1 + 2 / gamma) |R|``. Everything else, and options, as in
    `attnlrp`; ``gamma=0`` is `attnlrp`. Signed, in units of the score; cost F + B, fused attention
    stays on. Class-specific.

    Berend, Achtibat et al., preprint, 2026; its listing leaves out a factor z of the modified
    gradient. LRP is called patented, and free for personal and scientific use, by the authors of
    the LXT package.
    """

    formula: ClassVar[str] = "attnlrp with R_in = w(z_in) z_in / (w(z_in) z_in + w(z_up) z_up) R"
    paper: ClassVar[str] = "Berend, Achtibat et al., preprint 2026"

    gamma: float = 1.0
    gamma_linear: float = 0.0
    gamma_convolution: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_gamma(
            gamma=self.gamma,
            gamma_linear=self.gamma_linear,
            gamma_convolution=self.gamma_convolution,
        )

    @property
    def rules(self) -> Rules:
        """The rules of ResLRP with this method's gammas."""
        return replace(
            RESLRP,
            residual=self.gamma,
            linear=self.gamma_linear,
            convolution=self.gamma_convolution,
            constants=self.readout == "fullgrad",
        )
