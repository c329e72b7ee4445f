"""Models of open_clip, by name: the image tower is explained, the text tower makes targets."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visattn.errors import ModelError, TargetError, WeightsError, suggestion
from visattn.images import Size
from visattn.models.checkpoint import refuse_graph
from visattn.models.loading import SOURCES, Built, Spec, required
from visattn.models.text import TextTower

LONG = 4096


@SOURCES.register("open_clip")
def build(spec: Spec) -> Built:
    """Build ``ViT-B-16/tag``, or what a folder with an ``open_clip_config.json`` describes."""
    open_clip = required("open_clip", "open_clip")
    name, tag = _place(spec)
    arguments: dict[str, Any] = {"pretrained": tag}
    source = f"open_clip {spec.name}"
    path = None if spec.weights in ("pretrained", None) else _checkpoint(str(spec.weights))
    if spec.weights != "pretrained":
        arguments = {"load_weights": False, "pretrained_text": False}
        source = f"checkpoint {path.name}" if path else "random initialisation"
    if spec.image_size is not None:
        arguments["force_image_size"] = tuple(spec.image_size)
    clip = _create(open_clip, name, spec, arguments)
    if path is not None:
        _fill(open_clip, clip, path)
    transform, size = transform_of(clip.visual)
    text = TextTower(clip, lambda prompts: encode(clip, name, prompts))
    return Built(clip.visual, transform, size, None, source, text)


def transform_of(visual: Any) -> tuple[Any, Size]:
    """Return open_clip's evaluation transform of an image tower and the size of its input.

    The step that converts to RGB is left out: photographs are RGB here already.
    """
    transform = importlib.import_module("open_clip.transform")
    settings = transform.PreprocessCfg(**visual.preprocess_cfg)
    composed = transform.image_transform_v2(settings, is_train=False)
    composed.transforms = [
        step for step in composed.transforms if type(step).__name__ != "MaybeConvertMode"
    ]
    side = visual.image_size
    return composed, Size(side, side) if isinstance(side, int) else Size(*side)


def encode(clip: Any, name: str, prompts: Sequence[str]) -> torch.Tensor:
    """Return text embeddings (prompt, channel) of a model that open_clip calls ``name``."""
    open_clip = required("open_clip", "open_clip")
    try:
        tokenizer = open_clip.get_tokenizer(name)
    except Exception as error:
        reason = str(error).split("\n", 1)[0]
        raise WeightsError(
            f"The tokenizer of {name} could not be loaded ({type(error).__name__}: {reason}). "
            "Where it cannot be downloaded, compute the text's embedding elsewhere and use "
            "visattn.SimilarityTarget(embedding)."
        ) from error
    tokens = tokenizer(prompts)
    whole = tokenizer(prompts, context_length=LONG)
    longer = (whole[:, tokens.shape[1] :] != whole[:, -1:]).any(dim=1)
    for prompt in (prompt for prompt, cut in zip(prompts, longer, strict=True) if cut):
        raise TargetError(
            f"The prompt {prompt!r} is longer than the {tokens.shape[1]} tokens that {name} reads."
        )
    device = next(clip.parameters()).device
    features: torch.Tensor = clip.encode_text(tokens.to(device))
    return features


def _place(spec: Spec) -> tuple[str, str | None]:
    """Return open_clip's name of a model and the tag of its weights."""
    open_clip = required("open_clip", "open_clip")
    if spec.name.startswith(("hf-hub:", "local-dir:")):
        return spec.name, None
    folder = Path(spec.name).expanduser()
    if folder.is_dir():
        return f"local-dir:{folder}", None
    name, _, tag = spec.name.partition("/")
    known = open_clip.list_models()
    if name not in known:
        raise ModelError(f"open_clip has no model {name!r}.{suggestion(name, known)}")
    tags = open_clip.list_pretrained_tags_by_model(name)
    if spec.weights == "pretrained" and tag not in tags:
        told = f"has no weights {tag!r}" if tag else "needs the name of its weights"
        offer = f" They are {', '.join(tags)}." if tags else " open_clip offers none for it."
        raise WeightsError(f"open_clip:{name} {told}, as in open_clip:{name}/tag.{offer}")
    return name, tag or None


def _checkpoint(weights: str) -> Path:
    path = Path(weights)
    refuse_graph(path)
    if not path.is_file():
        raise WeightsError(f"There is no checkpoint {path}.")
    return path


def _fill(open_clip: Any, clip: nn.Module, path: Path) -> None:
    """Load a checkpoint through open_clip's own conversions; every tensor must fit."""
    try:
        open_clip.load_checkpoint(clip, str(path), strict=True)
    except Exception as error:
        told = " ".join(str(error).split())[:400]
        raise WeightsError(f"{path} does not fit {type(clip).__name__} ({told}).") from error


def _create(open_clip: Any, name: str, spec: Spec, arguments: dict[str, Any]) -> Any:
    try:
        clip = open_clip.create_model(name, **arguments)
    except Exception as error:
        reason = str(error).split("\n", 1)[0]
        kind = ModelError if spec.weights is None else WeightsError
        raise kind(
            f"open_clip:{spec.name} could not be built ({type(error).__name__}: {reason}). Where "
            "weights cannot be downloaded, use weights=None (random), weights='file.pt', a local "
            "folder, or packaged:dinov2_small."
        ) from error
    if not isinstance(getattr(clip, "visual", None), nn.Module):
        raise ModelError(f"open_clip's {type(clip).__name__} has no image tower.")
    return clip
