"""Flags that change every method or model of a `GalleryConfig`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from visattn.errors import ConfigError, UnsupportedMethodError, suggestion
from visattn.gallery.config import GalleryConfig, MethodConfig


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
