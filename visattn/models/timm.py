"""Models of timm, by name; weights from the Hugging Face hub, from a file, or random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
from timm.data import ImageNetInfo, create_transform, resolve_data_config

from visattn.errors import ModelError, WeightsError, suggestion
from visattn.images import Size
from visattn.models.loading import SOURCES, Built, Spec


@SOURCES.register("timm")
def build(spec: Spec) -> Built:
    """Build a timm model; its position embedding is resampled by timm when the size changes."""
    bare = spec.name.split(".", 1)[0]
    if not timm.is_model(bare):
        raise ModelError(
            f"timm has no model {bare!r}.{suggestion(bare, timm.list_models())} "
            f"'visattn models' lists all."
        )
    if spec.weights == "pretrained":
        return _create(spec, source=f"timm {spec.name}, pretrained")
    if spec.weights is None:
        return _create(spec, pretrained=False, source="random initialisation")
    return from_file(spec, Path(spec.weights))


def from_file(spec: Spec, path: Path, source: str = "", **arguments: Any) -> Built:
    """Build a timm model with a checkpoint file, through timm's own key and size conversion."""
    if not path.is_file():
        raise WeightsError(f"There is no checkpoint {path}.")
    classes = arguments.pop("num_classes", None)
    if classes is None:
        classes = _classes_in(path, timm.get_pretrained_cfg(spec.name))
    overlay = {"file": str(path), "num_classes": classes, "hf_hub_id": None, "url": ""}
    return _create(
        spec,
        source=source or f"checkpoint {path.name}",
        pretrained_cfg_overlay=overlay,
        num_classes=classes,
        **arguments,
    )


def transform_of(module: Any, size: Size | None) -> tuple[Any, Size]:
    """Return timm's evaluation transform of a model and the height and width of its input."""
    size = size or _built_size(module)
    overrides: dict[str, Any] = {"input_size": (3, *size)} if size else {}
    config = resolve_data_config(overrides, model=module)
    config.pop("crop_border_pixels", None)
    own = Size(*config["input_size"][1:])
    return create_transform(**config, is_training=False), own


def _built_size(module: Any) -> Size | None:
    """Return the input size that a transformer was built for, whatever its configuration says."""
    built = getattr(getattr(module, "patch_embed", None), "img_size", None)
    return None if built is None else Size(*map(int, built))


def _create(spec: Spec, *, source: str, pretrained: bool = True, **arguments: Any) -> Built:
    if spec.classes is not None and not pretrained:
        arguments.setdefault("num_classes", spec.classes)
    if spec.image_size is not None:
        arguments["img_size"] = tuple(spec.image_size)
    try:
        module = _instantiate(spec.name, pretrained, arguments)
    except Exception as error:
        kind = WeightsError if pretrained else ModelError
        raise kind(_failure(spec, pretrained, error)) from error
    transform, size = transform_of(module, spec.image_size)
    return Built(module, transform, size, imagenet_labels(module), source)


def _instantiate(name: str, pretrained: bool, arguments: dict[str, Any]) -> Any:
    """Create the model; convolutional networks take any input size and no ``img_size``."""
    try:
        return timm.create_model(name, pretrained=pretrained, **arguments)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        without = {key: value for key, value in arguments.items() if key != "img_size"}
        return timm.create_model(name, pretrained=pretrained, **without)


def imagenet_labels(module: Any) -> tuple[str, ...] | None:
    """Return ImageNet-1k class names for a model with its 1000 classes, else None."""
    if getattr(module, "num_classes", None) != 1000:
        return None
    info = ImageNetInfo("imagenet-1k")
    return tuple(str(info.index_to_description(i)).split(",")[0] for i in range(info.num_classes()))


def _classes_in(path: Path, config: Any) -> int:
    """Return the number of classes in a checkpoint, 0 where it has no classifier."""
    from timm.models import load_state_dict

    heads = config.classifier if config else None
    head = heads[0] if isinstance(heads, (list, tuple)) else heads
    try:
        weight = load_state_dict(str(path)).get(f"{head}.weight")
    except Exception as error:
        raise WeightsError(f"{path} is not a checkpoint that timm reads ({error}).") from error
    return 0 if weight is None else int(weight.shape[0])


def _failure(spec: Spec, pretrained: bool, error: Exception) -> str:
    reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    if not pretrained:
        return f"{spec.name} could not be built ({reason})."
    return (
        f"The weights of {spec.name} could not be loaded ({reason}). Where the model hub cannot be "
        "reached, use weights=None (random), weights='file.safetensors', packaged:dinov2_small or "
        "packaged:efficientnet_lite0."
    )
