"""Modules handed over in memory: what they declare about themselves."""

from __future__ import annotations

from typing import Any

from torch import nn

from visattn.adapters.transformers_vit import keeps_order
from visattn.errors import ModelError
from visattn.images import Size
from visattn.models.loading import Built, Spec

SOURCE = "handed over in memory"


def from_module(module: nn.Module, spec: Spec) -> Built:
    """Return a module with its own preprocessing, labels and input size, as far as it has them.

    Of a model with an image and a text tower the image tower is returned; its text tower has no
    tokenizer in memory and is left out. Raises `ModelError` for modules that take no pixels.
    """
    from visattn.models.transformers import is_pretrained_model

    if is_pretrained_model(module):
        return _of_transformers(module, spec)
    if type(module).__module__.startswith("open_clip.") and hasattr(module, "encode_image"):
        return _of_open_clip(module)
    if spec.transform is None and hasattr(module, "pretrained_cfg"):
        from visattn.models.timm import transform_of

        transform, size = transform_of(module, spec.image_size)
        return Built(module, transform, size, None, SOURCE)
    return Built(module, None, spec.image_size, None, SOURCE)


def traceable(transform: Any, size: Size | None) -> tuple[Any, Size | None]:
    """Return a caller's transform as steps, and the input size that it makes where that is known.

    ``transform`` is an image processor of transformers, a preset of torchvision's weights, or a
    composition of steps (then ``size`` is what the caller says).
    """
    home, kind = type(transform).__module__.split(".")[0], type(transform).__name__
    if home == "transformers":
        from visattn.models.image_processor import resized, traced

        return traced(transform if size is None else resized(transform, size))
    if home == "torchvision" and kind in ("ImageClassification", "SemanticSegmentation"):
        from visattn.models.torchvision import transform_of

        return transform_of(transform, size)
    return transform, size


def _of_transformers(module: Any, spec: Spec) -> Built:
    from visattn.models.transformers import declared_size, image_tower, labels_of

    if type(module).__name__.startswith("ViTMAE") and not keeps_order(module):
        raise ModelError(
            f"{type(module).__name__} shuffles its patches at random, so what its tokens mean is "
            "not known; save it with save_pretrained('folder') and load it by name: hf:./folder."
        )
    tower = image_tower(module)
    size = spec.image_size or declared_size(tower)
    return Built(tower, None, size, labels_of(tower), SOURCE)


def _of_open_clip(module: Any) -> Built:
    from visattn.models.open_clip import transform_of

    transform, size = transform_of(module.visual)
    return Built(module.visual, transform, size, None, SOURCE)
