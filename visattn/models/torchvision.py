"""Models of torchvision, by name; weights downloaded by torchvision, from a file, or random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision import models, transforms
from torchvision.models.vision_transformer import interpolate_embeddings

from visattn.errors import ModelError, WeightsError, suggestion
from visattn.images import Size
from visattn.models.checkpoint import classes_in, fill, read_checkpoint
from visattn.models.loading import SOURCES, Built, Spec

# Architectures that are built for one input size, and what torchvision calls it.
SIZED = {"vit_": "image_size", "maxvit_": "input_size"}


@SOURCES.register("torchvision")
def build(spec: Spec) -> Built:
    """Build a classifier or segmenter; ``name/TAG`` chooses other weights than the default ones."""
    name, _, tag = spec.name.partition("/")
    known = models.list_models(module=models) + models.list_models(module=models.segmentation)
    if name not in known:
        raise ModelError(
            f"torchvision has no classifier or segmenter {name!r}.{suggestion(name, known)}"
        )
    weights = _weights(name, tag)
    if spec.weights == "pretrained":
        module, source = _pretrained(name, weights, spec.image_size), f"torchvision {weights}"
    elif spec.weights is None:
        module, source = _random(name, spec.image_size, spec.classes), "random initialisation"
    else:
        path = Path(spec.weights)
        module, source = _from_file(name, path, spec.image_size), f"checkpoint {path.name}"
    transform, size = transform_of(weights.transforms(), spec.image_size)
    return Built(module, transform, size, _labels(weights, module), source)


def transform_of(preset: Any, size: Size | None) -> tuple[transforms.Compose, Size | None]:
    """Return a preset of torchvision's weights step by step, and the input size it makes.

    For another ``size`` the resize keeps its proportion to the crop. Raises `ModelError` for a
    preset of another task.
    """
    kind = type(preset).__name__
    if kind not in ("ImageClassification", "SemanticSegmentation"):
        raise ModelError(f"The preprocessing {kind} of torchvision cannot be traced to the photo.")
    edge = preset.resize_size[0]
    options = {"interpolation": preset.interpolation, "antialias": preset.antialias}
    end = [transforms.ToTensor(), transforms.Normalize(preset.mean, preset.std)]
    if kind == "SemanticSegmentation":
        resize = transforms.Resize(edge if size is None else tuple(size), **options)
        return transforms.Compose([resize, *end]), size
    crop = preset.crop_size[0]
    size = size or Size(crop, crop)
    resize = transforms.Resize(round(edge * max(size) / crop), **options)
    return transforms.Compose([resize, transforms.CenterCrop(tuple(size)), *end]), size


def _weights(name: str, tag: str) -> Any:
    """Return the named entry of an architecture's weights, its default without a name."""
    known = models.get_model_weights(name)
    if not tag:
        return known.DEFAULT
    if tag not in known.__members__:
        raise WeightsError(f"{name} has no weights {tag!r}.{suggestion(tag, known.__members__)}")
    return known[tag]


def _pretrained(name: str, weights: Any, size: Size | None) -> nn.Module:
    native = Size(*weights.meta["min_size"])
    try:
        if size is None or _sized(name) is None or size == native:
            return _create(name, weights=weights)
        state = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError) as error:
        reason = str(error).split("\n", 1)[0]
        raise WeightsError(
            f"The weights {weights} could not be loaded ({type(error).__name__}: {reason}). Where "
            "they cannot be downloaded, use weights=None (random), weights='file.pth', "
            "packaged:dinov2_small or packaged:efficientnet_lite0."
        ) from error
    module = _random(name, size, len(weights.meta["categories"]))
    fill(module, _resampled(module, state), Path(f"{weights}"))
    return module


def _random(name: str, size: Size | None, classes: int | None) -> nn.Module:
    arguments: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if name in models.list_models(module=models.segmentation):
        arguments["weights_backbone"] = None
    option = _sized(name)
    if size is not None and option == "image_size":
        if size.height != size.width:
            raise ModelError(
                f"torchvision's {name} takes square inputs only, not {size.height} x {size.width}."
            )
        arguments[option] = size.height
    elif size is not None and option is not None:
        arguments[option] = tuple(size)
    return _create(name, weights=None, **arguments)


def _create(name: str, **arguments: Any) -> nn.Module:
    try:
        module: nn.Module = models.get_model(name, **arguments)
    except (ValueError, TypeError, AssertionError) as error:
        raise ModelError(f"torchvision could not build {name}: {error}") from error
    return module


def _from_file(name: str, path: Path, size: Size | None) -> nn.Module:
    state = read_checkpoint(path)
    with torch.device("meta"):
        probe = _random(name, size, None)
    module = _random(name, size, classes_in(state, probe))
    fill(module, _resampled(module, state), path)
    return module


def _resampled(module: Any, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Resample the position embedding of a vision transformer to the module's input size."""
    if not isinstance(module, models.VisionTransformer):
        return state
    try:
        return dict(interpolate_embeddings(module.image_size, module.patch_size, state))
    except (KeyError, ValueError) as error:
        raise WeightsError(f"The weights are not those of a {type(module).__name__}.") from error


def _sized(name: str) -> str | None:
    return next((option for start, option in SIZED.items() if name.startswith(start)), None)


def _labels(weights: Any, module: nn.Module) -> tuple[str, ...] | None:
    """Return the class names of the weights, for a module with as many classes."""
    names = tuple(weights.meta["categories"])
    linear = [part for part in module.modules() if isinstance(part, nn.Linear)]
    return names if linear and linear[-1].out_features == len(names) else None
