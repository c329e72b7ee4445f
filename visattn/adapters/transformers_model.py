"""What all models of transformers have in common: a body, its name inside a head, the classes."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from visattn.adapters.adapter import Adapter, outputs_of
from visattn.adapters.recognition import is_instance
from visattn.tokens.chain import Refusal


class TransformersAdapter(Adapter):
    """A vision model of transformers, bare or inside a class with a head.

    Attributes:
        homes: the library's model folders and the first part of their classes' names.
    """

    homes: ClassVar[dict[str, str]]

    @classmethod
    def matches(cls, module: nn.Module) -> bool:
        """Match the models of the family's folders that take pixels."""
        pixels = getattr(module, "main_input_name", None) == "pixel_values"
        return pixels and cls.kind(module) is not None

    @classmethod
    def kind(cls, module: nn.Module) -> str | None:
        """Return the first part of the class names in the module's model folder, or None."""
        for folder, kind in cls.homes.items():
            home = f"transformers.models.{folder}.modeling_{folder}"
            if is_instance(module, home, f"{kind}PreTrainedModel"):
                return kind
        return None

    @property
    def head(self) -> str:
        """What the module does with its body: the class name behind the family's part."""
        return self.known_class.removeprefix(self.kind(self.module) or "")

    @property
    def known_class(self) -> str:
        """Name of the module's class in transformers, of the nearest one for a subclass."""
        kinds = type(self.module).__mro__
        return next(k.__name__ for k in kinds if k.__module__.startswith("transformers."))

    @property
    def inside(self) -> str:
        """Dotted name of the body inside the module with a final dot, empty for a bare body."""
        names = (str(getattr(self.module, "base_model_prefix", "")), "vision_model")
        found = [name for name in names if isinstance(getattr(self.module, name, None), nn.Module)]
        return f"{found[0]}." if found else ""

    @property
    def body(self) -> Any:
        """The network without its head."""
        return self.module.get_submodule(self.inside[:-1]) if self.inside else self.module

    @property
    def config(self) -> Any:
        """The body's configuration."""
        return self.body.config

    @property
    def num_classes(self) -> int | None:
        """Number of classes of an image classifier, 0 without a head, None for other heads."""
        if "ForImageClassification" in self.head:
            whole: Any = self.module
            found = outputs_of(whole.classifier) if hasattr(whole, "classifier") else None
            return int(whole.config.num_labels) if found is None else found
        return None if "For" in self.head else 0

    def unread(self) -> Refusal:
        """Return why the tokens that the head reads are not known."""
        return Refusal(
            f"{type(self.module).__name__} has no head that reads a fixed row of tokens; choose a "
            "query: 'cls', 'mean' or (row, col)"
        )
