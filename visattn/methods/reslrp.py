"""ResLRP (Berend et al., 2026)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch.nn import functional

from visattn.adapters import Adapter, Site
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.method import Maps, Passes
from visattn.methods.registry import METHODS
from visattn.methods.relevance import PIXELS, Relevance, relevance_at, require_gamma
from visattn.observation import AttentionRecord
from visattn.progress import progress
from visattn.propagation import RESLRP, Rules

DIAGONALS = ((-1, -1), (-1, 1), (1, -1), (1, 1))


@METHODS.register("reslrp")
@dataclass(frozen=True)
class ResLrp(Relevance):
    """AttnLRP with a rule for residual sums, where what cancels would make relevance explode.

    At ``z = z_in + z_up`` with ``w(z') = 1 + gamma 1[sign z' = sign z]``, ``R_in = w(z_in) z_in /
    (w(z_in) z_in + w(z_up) z_up) R``, R_up with the roles swapped, both 0 where z = 0: conserved
    exactly, and ``|R_in| + |R_up| <= (1 + 2 / gamma) |R|``. Everything else, and options, as in
    `attnlrp`; ``gamma=0`` is `attnlrp`. With ``shift`` the map is the mean over the image moved by
    so many pixels along both diagonals, each map moved back (ResLRP+; the shifts are our choice).
    Signed, in units of the score; cost F + B, with ``shift`` 4 (F + B) more forward passes; fused
    attention stays on. Class-specific.

    Berend, Achtibat et al., preprint, 2026; its listing leaves out a factor z of the modified
    gradient. LRP is called patented, and free for personal and scientific use, by the authors of
    the LXT package.
    """

    formula: ClassVar[str] = "attnlrp with R_in = w(z_in) z_in / (w(z_in) z_in + w(z_up) z_up) R"
    paper: ClassVar[str] = "Berend, Achtibat et al., preprint 2026"

    gamma: float = 1.0
    gamma_linear: float = 0.0
    gamma_convolution: float = 0.0
    shift: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_gamma(
            gamma=self.gamma,
            gamma_linear=self.gamma_linear,
            gamma_convolution=self.gamma_convolution,
        )
        if self.shift < 0 or (self.shift and self.readout != "pixels"):
            raise UnsupportedMethodError(
                f"shift={self.shift!r} is a number of pixels, and needs readout='pixels'."
            )

    def sites(self, adapter: Adapter) -> tuple[Site, ...]:
        """Return what the shared pass reads: nothing where only moved images are explained."""
        return () if self.shift else super().sites(adapter)

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return one pass, or one for each moved image besides the shared one."""
        if not self.shift:
            return super().passes(adapter, size)
        return Passes(1 + len(DIAGONALS), len(DIAGONALS))

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return signed relevance, the mean over moved images where a shift is given."""
        if not self.shift:
            return super().__call__(record, geometries)
        total = record.batch * len(DIAGONALS)
        progress("reslrp", 0, total)
        found = []
        for done, (down, right) in enumerate(DIAGONALS, start=1):
            step = (down * self.shift, right * self.shift)
            moved = _moved(record.inputs, step, "replicate")
            again = record.again.record(
                record, moved, record.indices, attention=False, sites=(PIXELS,), rules=self.rules
            )
            back = (-step[0], -step[1])
            found.append(_moved(relevance_at(again, PIXELS)[:, None], back, "constant")[:, 0])
            progress("reslrp", done * record.batch, total)
        return self.maps(record, torch.stack(found).mean(0), facts={"readout": "pixels"})

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


def _moved(images: torch.Tensor, step: tuple[int, int], edge: str) -> torch.Tensor:
    """Return images (batch, channel, row, col) moved down and to the right by ``step`` pixels."""
    (down, right), (rows, cols) = step, images.shape[-2:]
    sides = (max(right, 0), max(-right, 0), max(down, 0), max(-down, 0))
    padded = functional.pad(images, sides, mode=edge)
    return padded[..., max(-down, 0) :, max(-right, 0) :][..., :rows, :cols]
