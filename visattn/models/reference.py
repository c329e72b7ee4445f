"""Reference models: two small networks whose evidence is known, with weights in the package."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from timm.data import create_transform
from timm.layers import HybridEmbed
from timm.models import load_state_dict
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from visattn.errors import ModelError, WeightsError, suggestion
from visattn.images import Size
from visattn.models.loading import SOURCES, Built, Spec

SIDE = 96
STRIDE = 8
STEM = ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2")
MEAN = STD = (0.5, 0.5, 0.5)
# Those of `visattn.evaluation.objects.SHAPES`, in the order of their labels.
LABELS = ("arrow", "crescent", "cross", "heart", "hourglass", "ring", "star", "triangle")
INSTALLED = Path(__file__).parents[1] / "reference"
SOURCE_TREE = Path(__file__).parents[2] / "data" / "reference"


def _vit(classes: int) -> Any:
    """Return a transformer over the feature map of a small residual network, stride 8.

    A hybrid as in Dosovitskiy et al., ICLR 2021: from scratch it learns from far fewer images than
    patches do.
    """
    resnet = ResNet(BasicBlock, (1, 1), channels=(32, 64), stem_type="deep", stem_width=16)
    parts = [(name, getattr(resnet, name)) for name in STEM]
    return VisionTransformer(
        img_size=SIDE,
        patch_size=1,  # of the feature map, whose pixels are 8 x 8 pixels of the image
        embed_layer=partial(HybridEmbed, backbone=nn.Sequential(OrderedDict(parts))),
        embed_dim=96,
        depth=4,
        num_heads=3,
        num_classes=classes,
    )


def _cbam(classes: int) -> Any:
    return ResNet(
        BasicBlock,
        (1, 1, 1, 1),
        num_classes=classes,
        channels=(32, 64, 96, 128),
        output_stride=8,
        block_args={"attn_layer": "cbam"},
    )


ARCHITECTURES: Mapping[str, Callable[[int], Any]] = MappingProxyType({"cbam": _cbam, "vit": _vit})
REFERENCE = tuple(ARCHITECTURES)


@SOURCES.register("reference")
def build(spec: Spec) -> Built:
    """Build ``reference:vit`` or ``reference:cbam`` with the weights that visattn ships.

    Both tell eight planted shapes apart in images of 96 x 96 pixels; their model cards are in
    ``data/reference``. Raises `ModelError` for an unknown name or a size that the transformer
    cannot have, `WeightsError` for weights that do not fit.
    """
    module = architecture(spec.name, spec.classes or len(LABELS))
    source = "random initialisation"
    if spec.weights is not None:
        shipped = spec.weights == "pretrained"
        path = weights_file(spec.name) if shipped else Path(spec.weights)
        _load(module, path)
        source = f"visattn's reference weights, {path.name}" if shipped else f"file {path.name}"
    size = spec.image_size or Size(SIDE, SIDE)
    if spec.image_size is not None and spec.name == "vit":
        _resize(module, size)
    labels = LABELS if spec.classes is None else None
    return Built(module, transform(size), size, labels, source)


def architecture(name: str, classes: int = len(LABELS)) -> Any:
    """Return an untrained reference model by name, one of `REFERENCE`."""
    if name not in ARCHITECTURES:
        known = " and ".join(f"reference:{known}" for known in REFERENCE)
        raise ModelError(
            f"There is no reference:{name}.{suggestion(name, REFERENCE)} There are {known}."
        )
    return ARCHITECTURES[name](classes)


def weights_file(name: str) -> Path:
    """Return the file of shipped weights; raises `WeightsError` where it is not there."""
    places = [folder / f"{name}.safetensors" for folder in (INSTALLED, SOURCE_TREE)]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise WeightsError(
            f"The weights of reference:{name} are in none of {', '.join(map(str, places))}. "
            "Install visattn again, or train them: scripts/train_reference_models.py."
        )
    return found


def transform(size: Size) -> Any:
    """Return the evaluation transform: the shorter side scaled, the middle, values in -1..1."""
    return create_transform(
        (3, *size), is_training=False, interpolation="bicubic", mean=MEAN, std=STD, crop_pct=1.0
    )


def _resize(module: Any, size: Size) -> None:
    # timm counts the tokens of a stem right only where its strides divide the sides.
    if size.height % STRIDE or size.width % STRIDE:
        raise ModelError(
            f"reference:vit cannot take {size.height} x {size.width}: both sides must be multiples "
            f"of {STRIDE} pixels."
        )
    module.set_input_size(img_size=tuple(size))


def _load(module: Any, path: Path) -> None:
    if not path.is_file():
        raise WeightsError(f"There is no checkpoint {path}.")
    try:
        module.load_state_dict(load_state_dict(str(path)))
    except Exception as error:  # whatever a file that is no checkpoint makes its readers raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path} does not hold weights of this model: {reason}") from error
