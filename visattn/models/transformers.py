"""Vision models of transformers: from the hub, or from a folder that it wrote."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from visattn.adapters.transformers_vit import keep_order
from visattn.errors import ModelError, TargetError, WeightsError
from visattn.images import Size
from visattn.models.checkpoint import read_checkpoint
from visattn.models.image_processor import resized, traced
from visattn.models.loading import SOURCES, Built, Spec, required
from visattn.models.text import TextTower

PROCESSORS = ("preprocessor_config.json", "processor_config.json")
VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model", "tokenizer.model")


@SOURCES.register("hf")
def build(spec: Spec) -> Built:
    """Build ``org/name`` of the hub, or what a folder with a ``config.json`` describes.

    The class is the one that the configuration names; of a model with an image and a text tower
    the image tower, of a masked autoencoder the encoder with every patch in its place.
    """
    library = required("transformers", "transformers")
    place = _place(spec.name)
    config = _configured(library, place, spec)
    whole, source = _weighted(library, place, config, spec)
    module = image_tower(whole)
    if type(module).__name__ == "ViTMAEModel":
        module.register_forward_pre_hook(keep_order, with_kwargs=True)
    transform, size = _preprocessing(library, place, spec)
    if spec.image_size is not None:
        _interpolate_positions(module)
    text = None
    if hasattr(whole, "get_text_features"):
        text = TextTower(whole, lambda prompts: encode(whole, place, prompts))
    size = size or spec.image_size or declared_size(module)
    return Built(module, transform, size, labels_of(module), source, text)


def is_pretrained_model(module: nn.Module) -> bool:
    """Return whether a module is a model of transformers, without importing the library."""
    loaded = sys.modules.get("transformers.modeling_utils")
    return loaded is not None and isinstance(module, loaded.PreTrainedModel)


def image_tower(module: Any) -> nn.Module:
    """Return the part of a model that maps pixels to its outputs: itself, or its image tower.

    A tower with a projection is put into the library's own class for it, around the same weights.
    Raises `ModelError` for models that take no pixels.
    """
    if hasattr(module, "get_image_features") and hasattr(module, "vision_model"):
        if not hasattr(module, "visual_projection"):
            return _checked(module.vision_model)
        kind = type(module).__name__.removesuffix("Model") + "VisionModelWithProjection"
        tower_class = getattr(sys.modules["transformers"], kind, None)
        if tower_class is None:
            raise ModelError(f"transformers has no {kind} for {type(module).__name__}.")
        with torch.device("meta"):
            tower = tower_class(module.config.vision_config)
        tower.vision_model = module.vision_model
        tower.visual_projection = module.visual_projection
        return _checked(tower.train(module.training))
    return _checked(module)


def labels_of(module: Any) -> tuple[str, ...] | None:
    """Return the class names in a classifier's configuration, None where it only numbers them."""
    names = getattr(module.config, "id2label", None)
    if not names or "For" not in type(module).__name__:
        return None
    ordered = tuple(str(names[key]) for key in sorted(names, key=int))
    return None if all(name.startswith("LABEL_") for name in ordered) else ordered


def declared_size(module: Any) -> Size | None:
    """Return the input size in a model's configuration, None where it has none."""
    side = getattr(module.config, "image_size", None)
    if side is None:
        return None
    return Size(*map(int, side)) if isinstance(side, Sequence) else Size(int(side), int(side))


def encode(whole: Any, place: str, prompts: Sequence[str]) -> torch.Tensor:
    """Return text embeddings (prompt, channel), with the tokenizer that lies beside the weights."""
    library = required("transformers", "transformers")
    try:
        if Path(place).is_dir() and not _has(place, VOCABULARIES):
            raise FileNotFoundError(f"none of {', '.join(VOCABULARIES)} is there")
        tokenizer = library.AutoTokenizer.from_pretrained(place)
    except Exception as error:
        raise WeightsError(
            f"The tokenizer of {place} could not be loaded ({_first_line(error)}). Without it "
            "compute the text's embedding elsewhere and use visattn.SimilarityTarget(embedding)."
        ) from error
    longest = int(whole.config.text_config.max_position_embeddings)
    for prompt, tokens in zip(prompts, tokenizer(prompts)["input_ids"], strict=True):
        if len(tokens) > longest:
            raise TargetError(
                f"The prompt {prompt!r} has {len(tokens)} tokens; {place} reads {longest}."
            )
    tokens = tokenizer(prompts, padding="max_length", max_length=longest, return_tensors="pt")
    device = next(whole.parameters()).device
    found = whole.get_text_features(**{key: value.to(device) for key, value in tokens.items()})
    features: torch.Tensor = getattr(found, "pooler_output", found)
    return features


def _place(name: str) -> str:
    """Return a hub name as it is, or the path of a local folder."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    if name.startswith((".", "/", "~")):
        raise WeightsError(f"There is no folder {name!r} with a config.json in it.")
    return name


def _has(folder: str, names: Sequence[str]) -> bool:
    return any((Path(folder) / name).is_file() for name in names)


def _configured(library: Any, place: str, spec: Spec) -> Any:
    try:
        config = library.AutoConfig.from_pretrained(place)
    except Exception as error:
        raise WeightsError(
            f"The configuration of hf:{spec.name} could not be loaded ({_first_line(error)}). "
            f"{_WAY_OUT}"
        ) from error
    if spec.weights is None and spec.classes is not None:
        config.num_labels = spec.classes
    if spec.weights is None and spec.image_size is not None:
        vision = getattr(config, "vision_config", config)
        if getattr(vision, "image_size", None) is not None:
            height, width = spec.image_size
            vision.image_size = height if height == width else [height, width]
    return config


def _weighted(library: Any, place: str, config: Any, spec: Spec) -> tuple[Any, str]:
    """Return the model of a configuration with its weights, and where they come from."""
    kind = _class(library, config)
    if spec.weights == "pretrained":
        return _pretrained(kind, place, config, spec), f"transformers {spec.name}"
    if spec.weights is not None:
        path = Path(spec.weights)
        state = read_checkpoint(path)
        return _pretrained(kind, None, config, spec, state_dict=state), f"checkpoint {path.name}"
    try:
        return kind(config), "random initialisation"
    except Exception as error:
        raise ModelError(f"hf:{spec.name} could not be built ({_first_line(error)}).") from error


def _class(library: Any, config: Any) -> Any:
    """Return the class that a configuration names, else the image classifier of its kind."""
    name = (config.architectures or [None])[0]
    if name == "ViTMAEForPreTraining" or config.model_type == "vit_mae":
        config.mask_ratio = 0.0
        name = "ViTMAEModel"
    kind = None if name is None else getattr(library, name, None)
    if kind is not None:
        return kind
    classifiers = library.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    known = classifiers if type(config) in classifiers else library.MODEL_MAPPING
    if type(config) not in known:
        raise ModelError(f"transformers has no vision model for {type(config).__name__}.")
    found = known[type(config)]
    return found[0] if isinstance(found, tuple) else found


def _pretrained(kind: Any, place: str | None, config: Any, spec: Spec, **state: Any) -> Any:
    """Return a model with weights, converted and named as the library does; none may be missing."""
    named = spec.weights if state else f"hf:{spec.name}"
    options = {"config": config, "dtype": torch.float32, "output_loading_info": True}
    try:
        whole, told = kind.from_pretrained(place, **options, **state)
    except Exception as error:
        raise WeightsError(
            f"The weights of {named} could not be loaded ({_first_line(error)}). {_WAY_OUT}"
        ) from error
    missing = sorted(told["missing_keys"])
    if missing:
        raise WeightsError(
            f"The weights of {named} do not cover {kind.__name__}: {len(missing)} tensors would be "
            f"random, first {missing[0]}. Load them as the class that they were saved from."
        )
    return whole


def _preprocessing(library: Any, place: str, spec: Spec) -> tuple[Any, Size | None]:
    """Return the steps of the processor that lies beside the weights, None where there is none."""
    if spec.transform is not None or (Path(place).is_dir() and not _has(place, PROCESSORS)):
        return None, None
    try:
        processor = library.AutoImageProcessor.from_pretrained(place)
    except Exception as error:
        raise ModelError(
            f"The image processor of hf:{spec.name} could not be loaded ({_first_line(error)}). "
            "Give a transform=."
        ) from error
    if spec.image_size is not None:
        resized(processor, spec.image_size)
    return traced(processor)


def _checked(module: Any) -> nn.Module:
    if getattr(module, "main_input_name", "pixel_values") != "pixel_values":
        raise ModelError(
            f"{type(module).__name__} takes {module.main_input_name}, not pixels: load its vision "
            "tower."
        )
    tower: nn.Module = module
    return tower


def _interpolate_positions(module: nn.Module) -> None:
    """Let a model resample its position embedding to the input, where it can."""
    if "interpolate_pos_encoding" in inspect.signature(module.forward).parameters:
        module.register_forward_pre_hook(_with_positions, with_kwargs=True)


def _with_positions(
    module: nn.Module, given: Any, options: Mapping[str, Any]
) -> tuple[Any, dict[str, Any]]:
    del module
    return given, {"interpolate_pos_encoding": True, **options}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().split(chr(10), 1)[0]}"


_WAY_OUT = (
    "Where the hub cannot be reached, give a local folder (hf:./folder with config.json, "
    "model.safetensors and preprocessor_config.json), weights=None for random ones, or use "
    "packaged:dinov2_small."
)
