"""Models that other libraries take from timm: read by the adapter of the timm model inside."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from visattn.adapters.adapter import Adapter
from visattn.adapters.recognition import is_instance
from visattn.adapters.registry import ADAPTERS
from visattn.adapters.site import Site
from visattn.images import Size
from visattn.tokens.chain import Chain, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.step import Step


class InnerAdapter(Adapter):
    """A module around one timm model, whose tokens and read-out are that model's own."""

    @property
    @abstractmethod
    def name(self) -> str:
        """Name of the timm model inside the module."""

    @property
    def inner(self) -> Adapter:
        """The adapter of the timm model."""
        from visattn.adapters import find_adapter

        return find_adapter(self.module.get_submodule(self.name))

    def chain(self, size: Size) -> Chain | Refusal:
        """Return the timm model's walk, its operations called by their names in this module."""
        found = self.inner.chain(size)
        return found if isinstance(found, Refusal) else renamed(found, f"{self.name}.")

    def layout(self, size: Size) -> TokenLayout | Refusal:
        """Return what the timm model's tokens mean."""
        return self.inner.layout(size)

    def grid(self, size: Size) -> tuple[Size, tuple[float, float]]:
        """Return the timm model's natural grid."""
        return self.inner.grid(size)

    def cam_site(self) -> Site | Refusal:
        """Return the timm model's site, by its name in this module."""
        site = self.inner.cam_site()
        return (
            site
            if isinstance(site, Refusal)
            else replace(site, module=f"{self.name}.{site.module}")
        )

    @property
    def num_features(self) -> int | None:
        """Number of channels that the timm model's head reads."""
        return self.inner.num_features

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of every map of the timm model must know."""
        return self.inner.notes


@ADAPTERS.register("open_clip_timm")
class OpenClipTimmAdapter(InnerAdapter):
    """open_clip ``TimmModel``: SigLIP, ConvNeXt, EVA towers; its output is the image embedding."""

    family = "open_clip_timm"
    name = "trunk"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match open_clip's class and its subclasses."""
        return is_instance(module, "open_clip.timm_model", "TimmModel")

    @property
    def num_classes(self) -> int | None:
        """None of the outputs is a class."""
        return 0

    def chain(self, size: Size) -> Chain | Refusal:
        """Return the trunk's walk; pools by attention behind it are not walked."""
        kinds = {type(part).__name__ for part in self.module.get_submodule("head").children()}
        pools = sorted(kind for kind in kinds if "Attention" in kind)
        if pools:
            return Refusal(f"the tower pools by {pools[0]} behind its trunk, which is not walked")
        return super().chain(size)


@ADAPTERS.register("transformers_timm")
class TransformersTimmAdapter(InnerAdapter):
    """transformers ``TimmWrapperModel`` and ``TimmWrapperForImageClassification``."""

    family = "transformers_timm"
    name = "timm_model"

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match both classes."""
        home = "transformers.models.timm_wrapper.modeling_timm_wrapper"
        return is_instance(module, home, "TimmWrapperModel", "TimmWrapperForImageClassification")

    @property
    def num_classes(self) -> int | None:
        """Number of classes of the timm model."""
        return self.inner.num_classes


def renamed(chain: Chain, inside: str) -> Chain:
    """Return a chain whose operations are called ``inside`` and their name."""
    aside: Mapping[str, Any] = {f"{inside}{name}": why for name, why in chain.aside.items()}
    steps = tuple(_renamed(step, inside) for step in chain.steps)
    pool = None if chain.pool is None else _renamed(chain.pool, inside)
    return replace(chain, steps=steps, pool=pool, aside=aside)


def _renamed(step: Step, inside: str) -> Step:
    placements = tuple(replace(p, operation=f"{inside}{p.operation}") for p in step.placements)
    return replace(step, placements=placements)
