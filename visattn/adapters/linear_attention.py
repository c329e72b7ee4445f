"""Networks whose attention is linear: every token meets a summary, never another token.

SwiftFormer (Shaker et al., ICCV 2023), EfficientViM (Lee et al., CVPR 2025), EfficientViT of MIT
(Cai et al., ICCV 2023) and MobileViT v2 (Mehta and Rastegari, TMLR 2023).
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from visattn.adapters.adapter import channels_behind
from visattn.adapters.convnet import ConvNetAdapter
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain, Refusal


class Kind(NamedTuple):
    """A kind of linear attention: where timm defines the network and its attention, and a name."""

    home: str
    networks: tuple[str, ...]
    attention: str
    name: str


KINDS = (
    Kind(
        "timm.models.swiftformer",
        ("SwiftFormer",),
        "EfficientAdditiveAttention",
        "additive attention (keys are multiplied with one query of the whole image)",
    ),
    Kind(
        "timm.models.efficientvim",
        ("EfficientViM",),
        "HSMSSD",
        "a state space (tokens are summed into hidden states and read out of them)",
    ),
    Kind(
        "timm.models.efficientvit_mit",
        ("EfficientVit", "EfficientVitLarge"),
        "LiteMLA",
        "linear attention with ReLU kernels",
    ),
)
SEPARABLE = Kind(
    "timm.models.mobilevit",
    (),
    "LinearSelfAttention",
    "separable attention (values are multiplied with one context vector)",
)


@ADAPTERS.register("linear_attention")
class LinearAttentionAdapter(ConvNetAdapter):
    """Convolutional networks with linear attention; class activation maps apply."""

    family = "linear_attention"
    general = False

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match timm's networks of this kind and their subclasses, if they hold such attention."""
        return kind_of(module) is not None

    def chain(self, size: Size) -> Chain | Refusal:
        """Refuse: linear attention has no weights from token to token."""
        del size
        kind = kind_of(self.module)
        return Refusal(
            f"{type(self.module).__name__} mixes tokens by {kind.name if kind else 'sums'}, which "
            "has no token-to-token weights; class activation maps and gradient methods apply"
        )

    def cam_site(self) -> Site | Refusal:
        """Return the feature map that the head averages."""
        norms: Any = getattr(self.module, "norm", None)
        if isinstance(norms, nn.ModuleList):
            return Site(f"norm.{len(norms) - 1}", "output", "channels_first")
        if norms is not None:
            return Site("norm", "output", "channels_first")
        return super().cam_site()

    @property
    def num_features(self) -> int | None:
        """Number of channels that are pooled, behind the first convolution of the head if any."""
        head: Any = getattr(self.module, "head", None)
        return channels_behind(getattr(head, "in_conv", None)) or super().num_features

    @property
    def notes(self) -> tuple[str, ...]:
        """Say where the head reads more than the feature map."""
        if not isinstance(getattr(self.module, "norm", None), nn.ModuleList):
            return ()
        return ("the head also reads hidden states, which lie nowhere on the image",)


def kind_of(module: nn.Module) -> Kind | None:
    """Return the kind of linear attention that a network is made of, or None."""
    for kind in KINDS:
        if is_instance(module, kind.home, *kind.networks) and holds(module, kind):
            return kind
    net = is_instance(module, "timm.models.byobnet", "ByobNet")
    return SEPARABLE if net and holds(module, SEPARABLE) else None


def holds(module: nn.Module, kind: Kind) -> bool:
    """Return whether a network contains attention of this kind."""
    return any(is_instance(part, kind.home, kind.attention) for part in module.modules())
