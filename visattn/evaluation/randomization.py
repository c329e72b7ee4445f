"""Randomisation: copies of a model whose layers have new random weights, from the head down."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

import torch
from torch import nn

from visattn.errors import ModelError
from visattn.evaluation.seeding import number
from visattn.models import Model
from visattn.options import require_choice

TOP_DOWN, BOTTOM_UP, INDEPENDENT = ORDERS = ("top_down", "bottom_up", "independent")
CONTAINERS = (nn.Sequential, nn.ModuleList)
Key = tuple[str, int, int]
State = tuple[tuple[int, int, str], ...]

_REMEMBERED: WeakKeyDictionary[nn.Module, Randomization] = WeakKeyDictionary()


@dataclass(frozen=True)
class Layer:
    """A part of a model that is randomised as one.

    Attributes:
        name: of the module, with ``.`` in front for the parameters that a module holds itself
            beside its layers (class token, position embedding).
        parameters: names of its parameters and buffers.
    """

    name: str
    parameters: tuple[str, ...]


@dataclass(eq=False)
class Randomization:
    """A model with all weights drawn anew, from which partly random ones are put together.

    Modules with ``reset_parameters`` are initialised by it, which also sets the statistics of a
    BatchNorm back to mean 0 and variance 1. What is left (class token, position embedding, gates)
    is drawn from a normal distribution with the mean and standard deviation of the tensor itself;
    of a single number, with mean 0 and its magnitude as deviation. Buffers of other modules stay,
    such as all of a frozen BatchNorm. A layer's numbers depend on its name and the seed alone.

    Attributes:
        seed: of all numbers.
        state: of the original's tensors, by which a later change of them is noticed.
        module: the copy in which everything is random.
        layers: from input to head.
        built: partly random models by order, number of stages and stage.
    """

    seed: int
    state: State
    module: nn.Module
    layers: tuple[Layer, ...]
    built: dict[Key, Model] = field(default_factory=dict)

    @classmethod
    def of(cls, model: Model, tensor: torch.Tensor, seed: int) -> Randomization:
        """Return the randomisation of a model; that of the last seed is remembered with its module.

        ``tensor`` is an input (channel, row, col) that shows in which order layers run. The model
        is never changed. Raises `ModelError` for a module that cannot be copied.
        """
        state = _state(model.module)
        known = _REMEMBERED.get(model.module)
        if known is None or (known.seed, known.state) != (seed, state):
            drawn = _copied(model.module)
            layers = _layers(replace(model, module=drawn), tensor)
            for layer in layers:
                _draw(drawn, layer, seed)
            known = cls(seed, state, drawn, layers)
            _REMEMBERED[model.module] = known
        return known

    def stages(self, order: str, wanted: int) -> list[tuple[Layer, ...]]:
        """Return the random layers of each stage: ``wanted``, or one a layer where it has fewer.

        Stages grow by equal numbers of layers, as far as these divide; in the last of ``top_down``
        and ``bottom_up`` every layer is random, in those of ``independent`` only what was added.
        """
        require_choice("order", order, ORDERS)
        layers = self.layers if order == BOTTOM_UP else self.layers[::-1]
        count = min(wanted, len(layers))
        ends = [math.ceil(stage * len(layers) / count) for stage in range(count + 1)]
        starts = ends[:-1] if order == INDEPENDENT else [0] * count
        return [layers[start:end] for start, end in zip(starts, ends[1:], strict=True)]

    def models(self, model: Model, order: str, wanted: int) -> Iterator[Model]:
        """Yield the model of each stage; it shares all weights that are not random with ``model``.

        So all stages together take the memory of one more model.
        """
        for stage, layers in enumerate(self.stages(order, wanted)):
            key = (order, wanted, stage)
            if key not in self.built:
                names = {name for layer in layers for name in layer.parameters}
                self.built[key] = _with_module(model, self._assembled(model.module, names))
            yield self.built[key]

    def _assembled(self, module: nn.Module, random: set[str]) -> nn.Module:
        """Return a copy of a module with the ``random`` tensors drawn anew and all others shared.

        A deep copy takes what its memo holds for an object in the place of a copy of it.
        """
        drawn = dict(_tensors(self.module))
        memo = {id(own): drawn[name] if name in random else own for name, own in _tensors(module)}
        return copy.deepcopy(module, memo)


def _with_module(model: Model, module: nn.Module) -> Model:
    return replace(model, module=module, adapter=type(model.adapter)(module))


def _copied(module: nn.Module) -> nn.Module:
    try:
        return copy.deepcopy(module)
    except (RuntimeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{type(module).__name__} cannot be copied ({error}), so no copy can be randomised."
        ) from error


def _tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters(remove_duplicate=False)
    yield from module.named_buffers(remove_duplicate=False)


def _state(module: nn.Module) -> State:
    """Return what changes when a tensor is replaced, moved or written to."""
    return tuple(
        (tensor.data_ptr(), tensor._version, f"{tensor.device} {tensor.dtype}")  # noqa: SLF001
        for _, tensor in _tensors(module)
    )


def _layers(model: Model, tensor: torch.Tensor) -> tuple[Layer, ...]:
    """Return the layers of a model in the order in which they first run.

    Those that are never called as a module keep their place behind the one that is defined before
    them; what a module holds itself comes before its first layer.
    """
    names = list(_parts(model.module))
    clock = _first_calls(model, [name for name in names if not name.startswith(".")], tensor)
    placed, time = [], -1
    for name in names:
        if name.startswith("."):
            inside = [clock[each] for each in clock if each.startswith(name[1:])]
            placed.append((2 * min(inside, default=0) - 1, name))
            continue
        time = clock.get(name, time)
        placed.append((2 * time, name))
    placed.sort(key=lambda each: each[0])
    return tuple(Layer(name, _names(model.module, name)) for _, name in placed)


def _parts(module: nn.Module, prefix: str = "") -> Iterator[str]:
    """Yield the names of the parts of a module that are randomised as one, as they are defined."""
    if next(module.parameters(recurse=False), None) is not None:
        yield f".{prefix}"
    for name, child in module.named_children():
        if next(child.parameters(), None) is None:
            continue
        if isinstance(child, CONTAINERS) or _has_blocks(child):
            yield from _parts(child, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _has_blocks(module: nn.Module) -> bool:
    """Return whether a module holds a row of two or more blocks of one class."""
    rows = (part for part in module.modules() if isinstance(part, CONTAINERS))
    for row in rows:
        kinds = [type(part) for part in row if next(part.parameters(), None) is not None]
        if len(kinds) > len(set(kinds)):
            return True
    return False


def _first_calls(model: Model, names: list[str], tensor: torch.Tensor) -> dict[str, int]:
    """Return when each part is first called, counted from 0, in one pass of a copy."""
    times: dict[str, int] = {}

    def noting(name: str) -> Callable[[nn.Module, tuple[object, ...]], None]:
        def note(module: nn.Module, inputs: tuple[object, ...]) -> None:
            del module, inputs
            times.setdefault(name, len(times))

        return note

    hooks = [model.module.get_submodule(n).register_forward_pre_hook(noting(n)) for n in names]
    try:
        model.run(tensor[None].to(model.device, model.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return times


def _names(module: nn.Module, name: str) -> tuple[str, ...]:
    if name.startswith("."):
        part = module.get_submodule(name[1:].rstrip("."))
        own = dict(part.named_parameters(recurse=False)) | dict(part.named_buffers(recurse=False))
        return tuple(name[1:] + each for each in own)
    return tuple(f"{name}.{each}" for each, _ in _tensors(module.get_submodule(name)))


def _draw(module: nn.Module, layer: Layer, seed: int) -> None:
    """Draw the weights of a layer anew, in place; torch's random states are put back."""
    alone = layer.name.startswith(".")
    whole = module.get_submodule(layer.name[1:].rstrip(".") if alone else layer.name)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(number(layer.name, seed))
        for part in [whole] if alone else whole.modules():
            own = [w for w in part.parameters(recurse=False) if w.is_floating_point()]
            versions = [weight._version for weight in own]  # noqa: SLF001
            if not alone:
                _reset(part)
            for weight, version in zip(own, versions, strict=True):
                if weight._version == version:  # noqa: SLF001
                    _redraw(weight)


def _reset(part: nn.Module) -> None:
    """Initialise a module as its class does; torch's attention calls that ``_reset_parameters``."""
    for name in ("reset_parameters", "_reset_parameters"):
        reset = getattr(part, name, None)
        if callable(reset) and _takes_nothing(reset):
            reset()
            return


def _takes_nothing(function: Callable[..., object]) -> bool:
    empty, kinds = (
        inspect.Parameter.empty,
        (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD),
    )
    given = inspect.signature(function).parameters.values()
    return all(each.default is not empty or each.kind in kinds for each in given)


def _redraw(weight: torch.Tensor) -> None:
    single = weight.numel() == 1
    mean, deviation = (0.0, float(weight.abs())) if single else (weight.mean(), weight.std())
    weight.copy_(torch.randn_like(weight) * deviation + mean)
