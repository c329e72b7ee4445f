"""Adapter: what visattn must know about one architecture family."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import nn

from visattn.adapters.memory import chain_of
from visattn.adapters.site import Site
from visattn.adapters.stream import Stream
from visattn.errors import UnsupportedMethodError
from visattn.images import Size
from visattn.tokens.chain import Chain, Refusal
from visattn.tokens.layout import TokenLayout

LIBRARIES = ("timm", "torchvision", "transformers", "open_clip", "torch")


class Adapter(ABC):
    """Facts about one model, read from its own attributes.

    A family is one file with one subclass, decorated with `visattn.adapters.ADAPTERS.register`.

    Attributes:
        family: its name.
        general: whether it stands back where another family claims a module.
    """

    family: ClassVar[str]
    general: ClassVar[bool] = False

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    @classmethod
    @abstractmethod
    def matches(cls, module: nn.Module) -> bool:
        """Return whether the family's facts hold for ``module``."""

    @abstractmethod
    def chain(self, size: Size) -> Chain | Refusal:
        """Return the walk from head to token grid for an input of ``size``, or why there is none.

        ``size`` is the height and width of the model's input in pixels.
        """

    def layout(self, size: Size) -> TokenLayout | Refusal:
        """Return what the tokens at the site of `cam_site` mean: those that enter the head."""
        chain = chain_of(self, size)
        return chain if isinstance(chain, Refusal) else chain.end

    @abstractmethod
    def cam_site(self) -> Site | Refusal:
        """Return the activation that class activation maps use by default."""

    def block_sites(self) -> tuple[Site | None, ...]:
        """Return where the tokens behind each step of the chain can be read, for their norms.

        None for a step where they cannot; nothing at all for a family that does not say.
        """
        return ()

    def stream(self) -> Stream | Refusal:
        """Return where the token stream can be read between blocks, or why it cannot."""
        return Refusal(
            f"the {self.family} adapter does not say where a stream of tokens, the same from the "
            "first block to the last, can be read"
        )

    def grid(self, size: Size) -> tuple[Size, tuple[float, float]]:
        """Return the natural grid of maps, the finest of the walk, and its cells in input pixels.

        Raises `UnsupportedMethodError` where the family has no walk.
        """
        chain = chain_of(self, size)
        if isinstance(chain, Refusal):
            raise UnsupportedMethodError(f"{chain.reason}.")
        return chain.layout.grid, chain.layout.cell

    @property
    def num_features(self) -> int | None:
        """Number of channels that the head reads, None where it is not known."""
        found = getattr(self.module, "num_features", None)
        return found if isinstance(found, int) else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of every map of this model must know.

        A subclass from elsewhere may pool or arrange its tokens in its own way, which nobody here
        can see: it is named.
        """
        kind = type(self.module)
        library = kind.__module__.partition(".")[0]
        ours = type(self).__module__.startswith("visattn.") and not self.general
        if not ours or library in LIBRARIES:
            return ()
        parent = next((k for k in kind.__mro__ if k.__module__.split(".")[0] in LIBRARIES), kind)
        return (f"{kind.__name__} is read as {parent.__name__}, the class it derives from",)

    @property
    def num_classes(self) -> int | None:
        """Number of classes, 0 for a model without classifier, None where it is not known."""
        head = classifier_of(self.module)
        outputs = None if head is None else outputs_of(head)
        if outputs is not None:
            return outputs
        found = getattr(self.module, "num_classes", None)
        return found if isinstance(found, int) else None


def classifier_of(module: nn.Module) -> nn.Module | None:
    """Return the classifier that a module names itself, which a user may have replaced."""
    whole: Any = module
    if not callable(getattr(whole, "get_classifier", None)):
        return None
    try:
        named = whole.get_classifier()
    except AttributeError:  # timm's models with fused layers have lost what they would name
        return None
    first = named[0] if isinstance(named, (tuple, list)) and named else named
    return first if isinstance(first, nn.Module) else None


def channels_behind(part: nn.Module | None) -> int | None:
    """Return the channels of the last convolution in a part, None where there is none."""
    convs = [] if part is None else [p for p in part.modules() if isinstance(p, nn.Conv2d)]
    return convs[-1].out_channels if convs else None


def outputs_of(head: nn.Module) -> int | None:
    """Return how many values a head returns: those of its last linear layer; 0 for an identity.

    None where it cannot be told.
    """
    while isinstance(head, nn.Sequential) and len(head):
        if isinstance(head[-1], nn.Identity):
            return 0
        if not isinstance(head[-1], nn.Sequential):
            break
        head = head[-1]
    if isinstance(head, nn.Identity):
        return 0
    linear = [part for part in head.modules() if isinstance(part, (nn.Linear, nn.Conv2d))]
    if not linear:
        return None
    last = linear[-1]
    return last.out_features if isinstance(last, nn.Linear) else last.out_channels
