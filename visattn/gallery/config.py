"""GalleryConfig: which photos, models and methods make up one gallery, and how it is drawn."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)

from visattn.errors import ConfigError


def _target(value: Any) -> Any:
    if value is None or (isinstance(value, (int, str)) and not isinstance(value, bool)):
        return value
    raise ValueError("a class index, a label, 'top1' to 'top5' or 'embedding'")


def _weights(value: Any) -> Any:
    return None if value == "random" else value


def _image_size(value: Any) -> Any:
    sides = [value] if isinstance(value, int) else value
    if value is None:
        return None
    if isinstance(sides, (list, tuple)) and all(type(side) is int and side > 0 for side in sides):
        if len(sides) == 2:
            return tuple(sides)
        if sides == [value]:
            return value
    raise ValueError("a number of pixels or [height, width]")


def _labels(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(each, str) for each in value):
        return tuple(value)
    raise ValueError("a list of class names or the path of a file with one name a line")


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, (str, Mapping)) else value


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Target = Annotated[int | str | None, BeforeValidator(_target)]
Weights = Annotated[StrictStr | None, BeforeValidator(_weights)]
ImageSize = Annotated[int | tuple[int, int] | None, BeforeValidator(_image_size)]
Labels = Annotated[tuple[str, ...] | str | None, BeforeValidator(_labels)]


class Part(BaseModel):
    """A level of the configuration: frozen, and no key but its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class MethodConfig(Part):
    """One method: a name alone, or a mapping of ``name`` and the method's own options.

    ``style`` changes how this method's maps are drawn; everything else is an option.
    """

    name: StrictStr
    options: dict[str, Any] = Field(default_factory=dict)
    style: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        value = _named(value)
        if not isinstance(value, Mapping) or not isinstance(value.get("options", {}), Mapping):
            return value
        fixed = {key: each for key, each in value.items() if key in ("name", "style")}
        own = {key: each for key, each in value.items() if key not in cls.model_fields}
        return {**fixed, "options": {**value.get("options", {}), **own}}


Methods = Annotated[tuple[MethodConfig, ...], BeforeValidator(_listed)]


class ModelConfig(Part):
    """One model: a name alone, or a mapping; what is left out comes from the whole gallery.

    ``weights``: ``pretrained``, ``random`` (or null), drawn from the gallery's seed, or the path of
    a checkpoint.
    """

    name: StrictStr
    weights: Weights = "pretrained"
    image_size: ImageSize = None
    target: Target = None
    labels: Labels = None
    methods: Methods = ()

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        return _named(value)

    def settings(self) -> dict[str, Any]:
        """Return what changes the network itself, for JSON."""
        chosen = self.model_dump(mode="json", include={"weights", "image_size", "labels"})
        return {key: chosen[key] for key in sorted(chosen)}


class GalleryConfig(Part):
    """Everything that one gallery run needs to know.

    Attributes:
        input: folder of photos, searched recursively.
        out: folder of the gallery.
        models: specs of `visattn.load_model`, each a string or a `ModelConfig` mapping.
        methods: for every model that has no ``methods`` of its own.
        target: for every model that has no ``target`` of its own; see `visattn.explain`.
        batch_size: photos in one forward pass.
        device: ``auto``, ``cpu``, ``cuda``, ...
        workers: threads that decode and draw; None for one per processor, at most 8.
        limit: only the first photos, in the order of their paths.
        overwrite: compute everything again in a folder that already holds a gallery.
        style: fields of `visattn.overlay.Style`; caption and colour bar are on unless switched off.
            A method's own ``style`` goes before it.
        overlay_size: longest side of an overlay in pixels; larger photos are reduced for drawing.
        fps: frames per second that are read of a clip; its own rate where that is lower.
        smoothing: seconds over which the maps of a clip are averaged (standard deviation of a
            Gaussian); 0 for not.
        max_frames: most frames that are read of a clip.
        seed: of randomly initialised weights and of methods with a ``seed`` option.

    Relative paths are relative to the current directory, in a config file too.
    """

    input: Path
    out: Path
    models: Annotated[tuple[ModelConfig, ...], BeforeValidator(_listed), Field(min_length=1)]
    methods: Methods = ()
    target: Target = None
    batch_size: Annotated[StrictInt, Field(ge=1)] = 8
    device: StrictStr = "auto"
    workers: Annotated[StrictInt, Field(ge=1)] | None = None
    limit: Annotated[StrictInt, Field(ge=1)] | None = None
    overwrite: StrictBool = False
    style: dict[str, Any] = Field(default_factory=dict)
    overlay_size: Annotated[StrictInt, Field(ge=64)] = 2048
    fps: Annotated[float, Field(gt=0, le=240, allow_inf_nan=False)] = 4.0
    smoothing: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    max_frames: Annotated[StrictInt, Field(ge=1)] = 240
    seed: StrictInt = 0

    @model_validator(mode="after")
    def _complete(self) -> GalleryConfig:
        _unique("models", [model.name for model in self.models])
        for model in self.models:
            names = [method.name for method in self.methods_of(model)]
            if not names:
                raise ConfigError(
                    f"There is no method for {model.name}: give --method, or 'methods' in the "
                    "config file."
                )
            _unique(f"methods of {model.name}", names)
        return self

    def methods_of(self, model: ModelConfig) -> tuple[MethodConfig, ...]:
        """Return the methods for one model: its own list where it has one."""
        return model.methods or self.methods

    def style_of(self, method: MethodConfig) -> dict[str, Any]:
        """Return the drawing options for one method."""
        return {**self.style, **method.style}

    def target_of(self, model: ModelConfig) -> int | str | None:
        """Return the target for one model: its own where it has one."""
        return self.target if model.target is None else model.target


def _unique(what: str, names: list[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ConfigError(
            f"{what}: {twice[0]!r} is there twice. One gallery holds one map per photo, model and "
            "method; make a second gallery for other settings."
        )
