"""The engine: the only place where a gallery meets models and methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from visattn.errors import (
    ConfigError,
    ModelError,
    TargetError,
    UnsupportedMethodError,
    VisattnError,
    suggestion,
)
from visattn.gallery.config import MethodConfig, ModelConfig

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from visattn.explanation import Request
    from visattn.images import Image
    from visattn.saliency import SaliencyMap


AUTO = "auto"


class Prepared(Protocol):
    """A photo made ready for one model."""

    @property
    def image(self) -> Image:
        """The upright photo."""
        ...


class LoadedModel(Protocol):
    """What a gallery asks of a model; `visattn.models.Model` is one."""

    @property
    def weights_sha256(self) -> str | None:
        """Hash of the weights, or None for random ones."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """Return what run.json says about the model."""
        ...

    def prepare(self, image: Image) -> Prepared:
        """Preprocess one photo; called from several threads."""
        ...


class Engine(Protocol):
    """Loads models and explains batches; tests bring their own."""

    def class_specific(self, method: str) -> bool:
        """Return whether a method explains a target; raises `ConfigError` for unknown names."""
        ...

    def check(self, method: MethodConfig) -> None:
        """Raise `ConfigError` for an unknown method or option."""
        ...

    def check_model(self, model: ModelConfig) -> None:
        """Raise `ConfigError` for an unknown name or a missing file; nothing is loaded."""
        ...

    def check_target(
        self, model: Any, methods: Sequence[MethodConfig], target: int | str | None
    ) -> None:
        """Raise `ConfigError` for a target that would fail for every photo."""
        ...

    def automatic(self, model: Any, target: int | str | None) -> str:
        """Return the name of the method that ``auto`` stands for with a model."""
        ...

    def load(self, model: ModelConfig, device: str, seed: int) -> LoadedModel:
        """Return the model, its random weights (if any) drawn from ``seed``."""
        ...

    def explain(
        self,
        model: Any,
        prepared: Sequence[Any],
        methods: Sequence[MethodConfig],
        target: int | str | None,
        seed: int,
    ) -> list[list[SaliencyMap | VisattnError]]:
        """Return one list per photo, with one map or error per method."""
        ...

    def probabilities(self, model: Any, prepared: Sequence[Any]) -> npt.NDArray[np.float64] | None:
        """Return those of all classes (photo, class), or None for a model without classes."""
        ...


class TorchEngine:
    """The engine of visattn itself; torch is imported when it is first used."""

    def class_specific(self, method: str) -> bool:
        """Return whether a method explains a target; raises `ConfigError` for unknown names."""
        from visattn.methods import get_method

        if method == AUTO:  # for most models
            return True
        try:
            return bool(get_method(method).class_specific)
        except UnsupportedMethodError as error:
            raise ConfigError(str(error)) from error

    def check(self, method: MethodConfig) -> None:
        """Raise `ConfigError` for an unknown method or option."""
        from visattn.methods import create_method

        if method.name == AUTO and method.options:
            raise ConfigError(
                f"auto has no options, but {', '.join(method.options)} was given: name the method."
            )
        try:
            if method.name != AUTO:
                create_method(method.name, **method.options)
        except UnsupportedMethodError as error:
            raise ConfigError(str(error)) from error

    def check_model(self, model: ModelConfig) -> None:
        """Raise `ConfigError` for an unknown name or a missing file; nothing is loaded."""
        from visattn.models.loading import SOURCES

        spec = model.name if ":" in model.name else f"timm:{model.name}"
        prefix, name = spec.split(":", 1)
        try:
            SOURCES.get(prefix)
        except ModelError as error:
            raise ConfigError(str(error)) from error
        _check_name(prefix, name)
        files = {"weights": model.weights, "labels": model.labels}
        for key, file in files.items():
            if isinstance(file, str) and file != "pretrained" and not Path(file).is_file():
                raise ConfigError(f"{key} of {model.name}: there is no file {file}.")

    def check_target(
        self, model: Any, methods: Sequence[MethodConfig], target: int | str | None
    ) -> None:
        """Raise `ConfigError` for a target that would fail for every photo.

        Methods that do not apply to the model need none.
        """
        import torch

        from visattn.targets import resolve

        names = [each.name for each in methods if _asks_for_target(model, each, target)]
        labels = len(model.labels) if model.labels else None
        classes = labels if model.adapter.num_classes is None else model.adapter.num_classes
        if not names or (classes is None and not isinstance(target, str)):
            return
        try:
            resolve(target, model, torch.ones(1, classes or 1))
        except TargetError as error:
            raise ConfigError(f"target for {', '.join(names)}: {error}") from error

    def automatic(self, model: Any, target: int | str | None) -> str:
        """Return the name of the method that ``auto`` stands for with a model."""
        return _named(model, MethodConfig(name=AUTO), target).name

    def load(self, model: ModelConfig, device: str, seed: int) -> LoadedModel:
        """Return the model; torch's random state is as before afterwards."""
        import torch

        from visattn.models import load_model

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return load_model(
                model.name,
                weights=model.weights,
                image_size=model.image_size,
                labels=model.labels,
                device=device,
            )

    def explain(
        self,
        model: Any,
        prepared: Sequence[Any],
        methods: Sequence[MethodConfig],
        target: int | str | None,
        seed: int,
    ) -> list[list[SaliencyMap | VisattnError]]:
        """Return one list per photo, with one map or error per method."""
        from visattn.explanation import explain_batch

        requests = [_request(_named(model, each, target), target, seed) for each in methods]
        return explain_batch(model, prepared, requests)

    def probabilities(self, model: Any, prepared: Sequence[Any]) -> npt.NDArray[np.float64] | None:
        """Return those of all classes (photo, class), or None for a model without classes.

        Softmax over the outputs; one output alone is the logit of class 1.
        """
        import torch

        outputs = model.run(model.stack(prepared)).double()
        if not model.has_classifier or outputs.ndim != 2:
            return None
        if outputs.shape[1] == 1:
            outputs = torch.cat([torch.zeros_like(outputs), outputs], dim=1)
        found: npt.NDArray[np.float64] = outputs.softmax(dim=1).cpu().numpy()
        return found


def _check_name(prefix: str, name: str) -> None:
    import timm

    from visattn.models.packaged import PACKAGED

    bare = name.split(".", 1)[0]
    if prefix == "packaged" and name not in PACKAGED:
        raise ConfigError(f"There is no packaged model {name!r}.{suggestion(name, PACKAGED)}")
    if prefix == "timm" and not timm.is_model(bare):
        near = suggestion(bare, timm.list_models()) if len(bare) > 3 else ""
        raise ConfigError(f"timm has no model {bare!r}.{near if len(near) < 200 else ''}")


def _named(model: Any, method: MethodConfig, target: int | str | None) -> MethodConfig:
    """Return the method itself, or what ``auto`` stands for with this model."""
    from visattn.explanation import automatic_method

    if method.name != AUTO:
        return method
    name, options = automatic_method(model, target)
    return MethodConfig(name=name, options=options)


def _asks_for_target(model: Any, settings: MethodConfig, target: int | str | None) -> bool:
    from visattn.methods import create_method

    settings = _named(model, settings, target)
    method = create_method(settings.name, **settings.options)
    if not method.class_specific:
        return False
    return model.input_size is None or not method.refusal(model.adapter, model.input_size)


def _request(method: MethodConfig, target: int | str | None, seed: int) -> Request:
    from visattn.explanation import Request
    from visattn.methods import create_method, get_method

    kind = get_method(method.name)
    seeded = {"seed": seed} if "seed" in {each.name for each in fields(kind)} else {}
    explains = create_method(method.name, **method.options).class_specific
    wanted = target if explains else None
    return Request(method.name, target=wanted, options={**seeded, **method.options})
