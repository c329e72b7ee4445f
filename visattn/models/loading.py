"""load_model: from a name or a module to a `Model`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visattn.adapters import find_adapter
from visattn.errors import ModelError, suggestion
from visattn.images import Size
from visattn.models.checkpoint import EXPORTED, ONNX, refuse_graph
from visattn.models.model import Model
from visattn.models.preprocessing import Preprocessing
from visattn.models.text import TextTower, VisionLanguageModel
from visattn.models.wrappers import unwrap
from visattn.registry import Registry

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
DTYPES["float64"] = torch.float64
GRAPHS = {"ModelProto": ONNX, "InferenceSession": ONNX, "ExportedProgram": EXPORTED}
FILES = (".bin", ".ckpt", ".onnx", ".pt", ".pt2", ".pth", ".safetensors")


@dataclass(frozen=True)
class Spec:
    """What to build: the name behind the prefix, and the rest as the caller gave it.

    Attributes:
        classes: how many labels the caller gave, None without labels.
        transform: the caller's own preprocessing, which takes the place of the model's.
    """

    name: str
    weights: str | Path | None = "pretrained"
    image_size: Size | None = None
    classes: int | None = None
    transform: Any = None


@dataclass(frozen=True, eq=False)
class Built:
    """What a source library returns.

    Attributes:
        text: the text tower of a vision-language model, whose image tower is ``module``.
    """

    module: nn.Module
    transform: Any
    input_size: Size | None
    labels: tuple[str, ...] | None
    source: str
    text: TextTower | None = None


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
            ``packaged:efficientnet_lite0``, ``reference:vit``, ``reference:cbam`` (small networks
            with known evidence, shipped), ``torchvision:vit_b_16`` or ``torchvision:name/TAG``,
            ``hf:org/name`` or ``hf:./folder`` (transformers), ``open_clip:ViT-B-16/tag`` or
            ``open_clip:./folder``; or an ``nn.Module``, which keeps its weights, device and dtype.
            Parallel and compiled wrappers are taken off it. Of models with an image and a text
            tower the image tower is explained, see `visattn.TextTarget`.
        weights: ``pretrained``, None for random initialisation from torch's current seed, or the
            path of a checkpoint (``.safetensors``, ``.pth``).
        image_size: height and width of the input, one number for both, None for the model's own.
        labels: class names, or a file with them (one a line, or a JSON list).
        device: ``auto`` is CUDA where there is one, else the CPU.
        dtype: ``float32``, ``float16``, ``bfloat16`` or ``float64``.
        transform: preprocessing in the place of the model's own: traceable torchvision or timm
            steps, a preset of torchvision's weights, or an image processor of transformers.

    Raises:
        ModelError: the name, size, dtype or module cannot be used.
        WeightsError: the weights cannot be had.
    """
    from visattn.models.in_memory import from_module, traceable

    names = _labels(labels)
    request = Spec("", weights, _size(image_size), len(names) if names else None, transform)
    if isinstance(spec, nn.Module):
        bare = unwrap(spec)
        built, name = from_module(bare, request), type(bare).__name__
    else:
        prefix, known = _source(spec)
        built = SOURCES.get(prefix)(replace(request, name=known))
        name = str(spec).removeprefix("timm:")
        for part in (built.module, *([built.text.module] if built.text else [])):
            part.to(_device(device), _dtype(dtype)).eval()
    if transform is not None:
        steps, size = traceable(transform, request.image_size)
        built = replace(built, transform=steps, input_size=size or built.input_size)
    return _model(built, name, names)


def required(library: str, extra: str) -> Any:
    """Return an optional library; raises `ModelError` naming the extra that installs it."""
    try:
        return importlib.import_module(library)
    except ImportError as error:
        raise ModelError(
            f"{library} cannot be imported ({error}). Install it: pip install 'visattn[{extra}]'."
        ) from error


def _source(spec: Any) -> tuple[str, str]:
    """Return the prefix and the rest of a model's name, or refuse what is no name."""
    if isinstance(spec, (str, Path)):
        refuse_graph(Path(spec))
        if isinstance(spec, str) and (":" in spec or Path(spec).suffix not in FILES):
            prefix, colon, rest = spec.partition(":")
            return (prefix, rest) if colon else ("timm", spec)
        raise ModelError(
            f"{spec} is a file: name the architecture and give the file as weights={str(spec)!r}."
        )
    kind = type(spec).__name__
    graph = GRAPHS.get(kind, "no model")
    raise ModelError(f"{kind} is {graph}: give a name or the original nn.Module.")


def _model(built: Built, name: str, names: tuple[str, ...] | None) -> Model:
    traced = None if built.transform is None else Preprocessing.from_transform(built.transform)
    adapter = find_adapter(built.module)
    if names and adapter.num_classes and len(names) != adapter.num_classes:
        raise ModelError(f"{len(names)} labels for the {adapter.num_classes} classes of {name}.")
    known = names or built.labels
    facts = (built.module, name, adapter, traced, built.input_size, known, built.source)
    return Model(*facts) if built.text is None else VisionLanguageModel(*facts, text=built.text)


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
