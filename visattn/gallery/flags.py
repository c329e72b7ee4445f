"""Flags that change every method or model of a `GalleryConfig`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from visattn.errors import ConfigError, UnsupportedMethodError, suggestion
from visattn.gallery.config import GalleryConfig, MethodConfig, ModelConfig


def with_options(config: GalleryConfig, options: Mapping[str, Any]) -> GalleryConfig:
    """Return the config with each option given to every method that has it.

    Raises `ConfigError` for an option that no chosen method has.
    """
    used = [method for model in config.models for method in config.methods_of(model)]
    known = {name for method in used for name in _options_of(method)}
    for name in options:
        if name not in known:
            repair = suggestion(name, known) or " They have no options."
            raise ConfigError(f"No chosen method has an option {name!r}.{repair}")

    def change(method: MethodConfig) -> MethodConfig:
        own = {name: options[name] for name in options if name in _options_of(method)}
        return method.model_copy(update={"options": {**method.options, **own}})

    return _changed(config, change)


def with_style(config: GalleryConfig, style: Mapping[str, Any]) -> GalleryConfig:
    """Return the config with drawing options that go before those of the methods."""

    def change(method: MethodConfig) -> MethodConfig:
        own = {name: value for name, value in method.style.items() if name not in style}
        return method.model_copy(update={"style": own})

    return _changed(config, change).model_copy(update={"style": {**config.style, **style}})


def with_weights(config: GalleryConfig, weights: Sequence[str]) -> GalleryConfig:
    """Return the config with these weights: one for all models, or one for each in their order.

    They go before those of the config. Raises `ConfigError` for another number of them.
    """
    names = [model.name for model in config.models]
    if len(weights) not in (1, len(names)):
        raise ConfigError(
            f"{len(weights)} --weights were given for {len(names)} --model: give one for all "
            "models, or one for each. Two checkpoints of one model need two galleries; "
            "'visattn figure' compares them in one figure."
        )
    each = weights if len(weights) > 1 else [*weights] * len(names)
    models = tuple(
        ModelConfig.model_validate({**model.model_dump(), "weights": own})
        for model, own in zip(config.models, each, strict=True)
    )
    return config.model_copy(update={"models": models})


def with_image_size(config: GalleryConfig, size: int | tuple[int, int]) -> GalleryConfig:
    """Return the config with an input size for every model that has none of its own."""
    models = tuple(
        model.model_copy(update={"image_size": size}) if model.image_size is None else model
        for model in config.models
    )
    return config.model_copy(update={"models": models})


def _changed(
    config: GalleryConfig, change: Callable[[MethodConfig], MethodConfig]
) -> GalleryConfig:
    models = tuple(
        model.model_copy(update={"methods": tuple(map(change, model.methods))})
        for model in config.models
    )
    return config.model_copy(
        update={"models": models, "methods": tuple(map(change, config.methods))}
    )


def _options_of(method: MethodConfig) -> set[str]:
    from visattn.methods import get_method

    if method.name == "auto":
        return set()
    try:
        return {field.name for field in fields(get_method(method.name))}
    except UnsupportedMethodError as error:
        raise ConfigError(str(error)) from error
