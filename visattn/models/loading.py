"""load_model: from a name or a module to a `Model`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visattn.adapters import find_adapter
from visattn.errors import ModelError, suggestion
from visattn.images import Size
from visattn.models.model import Model
from visattn.models.preprocessing import Preprocessing
from visattn.registry import Registry

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
DTYPES["float64"] = torch.float64
WRAPPERS = ("DataParallel", "DistributedDataParallel", "OptimizedModule")


@dataclass(frozen=True)
class Spec:
    """What to build: the name behind the prefix, weights and input size as the caller gave them."""

    name: str
    weights: str | Path | None = "pretrained"
    image_size: Size | None = None
    classes: int | None = None


@dataclass(frozen=True, eq=False)
class Built:
    """What a source library returns."""

    module: nn.Module
    transform: Any
    input_size: Size | None
    labels: tuple[str, ...] | None
    source: str


Source = Callable[[Spec], Built]
SOURCES: Registry[Source] = Registry("model source", "visattn.models", ModelError)


def load_model(
    spec: str | nn.Module,
    *,
    weights: str | Path | None = "pretrained",
    image_size: int | tuple[int, int] | None = None,
    labels: Sequence[str] | str | Path | None = None,
    device: str | torch.device = "auto",
    dtype: str = "float32",
    transform: Any = None,
) -> Model:
    """Load a model by name, or take a module as it is.

    Args:
        spec: ``vit_small_patch16_224`` or ``timm:...`` (timm), ``packaged:dinov2_small``,
            ``packaged:efficientnet_lite0``, or an ``nn.Module``, which keeps its weights, device
            and dtype.
        weights: ``pretrained``, None for random initialisation from torch's current seed, or the
            path of a checkpoint (``.safetensors``, ``.pth``).
        image_size: height and width of the input, one number for both, None for the model's own.
        labels: class names, or a file with them (one a line, or a JSON list).
        device: ``auto`` is CUDA where there is one, else the CPU.
        dtype: ``float32``, ``float16``, ``bfloat16`` or ``float64``.
        transform: preprocessing of an ``nn.Module`` without timm's ``pretrained_cfg``, composed of
            traceable torchvision or timm steps.

    Raises:
        ModelError: the name, size, dtype or module cannot be used.
        WeightsError: the weights cannot be had.
    """
    size = _size(image_size)
    names = _labels(labels)
    if isinstance(spec, nn.Module):
        built, name = _from_module(spec, size, transform), type(unwrap(spec)).__name__
    elif not isinstance(spec, str):
        raise ModelError(f"{type(spec).__name__} is no model: give a name or an nn.Module.")
    else:
        prefix, name = spec.split(":", 1) if ":" in spec else ("timm", spec)
        request = Spec(name, weights, size, len(names) if names else None)
        built, name = SOURCES.get(prefix)(request), spec.removeprefix("timm:")
        built.module.to(_device(device), _dtype(dtype)).eval()
    traced = None if built.transform is None else Preprocessing.from_transform(built.transform)
    adapter = find_adapter(built.module)
    if names and adapter.num_classes and len(names) != adapter.num_classes:
        raise ModelError(f"{len(names)} labels for the {adapter.num_classes} classes of {name}.")
    known = names or built.labels
    return Model(built.module, name, adapter, traced, built.input_size, known, built.source)


def unwrap(module: nn.Module) -> nn.Module:
    """Return the module inside DataParallel, DistributedDataParallel or torch.compile wrappers.

    Raises `ModelError` for a ScriptModule: its operations cannot be observed.
    """
    while type(module).__name__ in WRAPPERS:
        inner = getattr(module, "_orig_mod", None)
        module = module.module if inner is None else inner  # type: ignore[assignment]
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(
            f"{type(module).__name__} is compiled TorchScript, whose operations cannot be "
            "observed; load the original nn.Module."
        )
    return module


def _from_module(module: nn.Module, size: Size | None, transform: Any) -> Built:
    bare = unwrap(module)
    built = Built(bare, transform, size, None, "handed over in memory")
    if transform is None and hasattr(bare, "pretrained_cfg"):
        from visattn.models.timm import transform_of

        transform, own = transform_of(bare, size)
        return Built(bare, transform, own, None, built.source)
    return built


def _size(image_size: int | tuple[int, int] | None) -> Size | None:
    if image_size is None:
        return None
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ModelError(f"image_size {image_size!r} is neither a size nor (height, width).")
    return Size(*size)


def _labels(labels: Sequence[str] | str | Path | None) -> tuple[str, ...] | None:
    if not isinstance(labels, (str, Path)):
        return None if labels is None else tuple(labels)
    try:
        text = Path(labels).read_text(encoding="utf-8")
        names = json.loads(text) if text.lstrip().startswith("[") else text.splitlines()
    except (OSError, ValueError) as error:
        raise ModelError(f"The labels in {labels} cannot be read: {error}") from error
    return tuple(str(name).strip() for name in names if str(name).strip())


def _device(device: str | torch.device) -> torch.device:
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ModelError(f"Device {device!r} cannot be used: {error}") from error


def _dtype(dtype: str) -> torch.dtype:
    if dtype not in DTYPES:
        raise ModelError(f"There is no dtype {dtype!r}.{suggestion(dtype, DTYPES)}")
    return DTYPES[dtype]
