"""CPUBone (Nottebaum et al., 2026): LowFormer's attention with kernels that suit processors."""

from __future__ import annotations

from typing import ClassVar

from torch import nn

from visattn.adapters.lowformer import LowFormerAdapter
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site


@ADAPTERS.register("cpubone")
class CPUBoneAdapter(LowFormerAdapter):
    """timm ``CPUBone`` with attention; the head reads an average."""

    family = "cpubone"
    home: ClassVar[str] = "timm.models.cpubone"
    network: ClassVar[str] = "CPUBone"

    @property
    def pool_type(self) -> str:
        """How the head pools."""
        return str(self.lowformer.head.pool_type)

    @property
    def widening(self) -> nn.Module:
        """What stands between the last stage and the pool; nothing once a user removed it."""
        found: nn.Module = self.lowformer.head.in_conv
        return found

    def cam_site(self) -> Site:
        """Return the feature map that is pooled."""
        return Site("head.global_pool", "input", "channels_first")
