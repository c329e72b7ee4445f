"""The axes of a figure: images, models, methods, targets, layers, heads, queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from visattn.cli.figure_values import ALL, counts, numbers, query_of
from visattn.cli.options import target_of, weights_of
from visattn.errors import ConfigError, TargetError, VisattnError, suggestion

if TYPE_CHECKING:
    from visattn.models import Model, Prepared
    from visattn.saliency import SaliencyMap

AXES = ("images", "models", "methods", "targets", "layers", "heads", "queries")
TOP = ("top1", "top2", "top3")


@dataclass(frozen=True)
class Network:
    """A model to load: its name and its weights."""

    name: str
    weights: str = "pretrained"


@dataclass(frozen=True)
class Axes:
    """What a figure shows: the values along each axis, and which axis makes the rows.

    An axis without values has one place, where the method's own default holds.
    """

    images: Sequence[Path]
    models: Sequence[Network]
    methods: Sequence[str]
    targets: Sequence[str] = ()
    layers: Sequence[str] = ()
    heads: Sequence[str] = ()
    queries: Sequence[str] = ()
    rows: str = "images"
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_axis(self.rows)
        if not self.methods:
            raise ConfigError("There is no method: give --method, one of 'visattn methods'.")
        shown = [f"{each.name} with weights {each.weights}" for each in self.models]
        _unique("--model", shown)
        for flag, values in (
            ("IMAGE", [*map(str, self.images)]), ("--method", self.methods),
            ("--target", self.targets), ("--query", self.queries),
        ):  # fmt: skip
            _unique(flag, values)

    def completed(self) -> Axes:
        """Return the axes with all layers or heads, or the first classes, where rows ask for it."""
        if self.rows == "layers":
            return replace(self, layers=self.layers or (ALL,))
        if self.rows == "heads":
            return replace(self, heads=self.heads or (ALL,))
        return replace(self, targets=self.targets or TOP) if self.rows == "targets" else self

    def maps(self, load: Callable[[Network], Model]) -> list[list[SaliencyMap | None]]:
        """Compute every map and return them in rows; raises the first error of any map.

        None stands where a row has no map of a column: layers may differ in their number of heads.
        """
        found = dict[tuple[Any, ...], "SaliencyMap"]()
        for network in self.models:
            model = load(network)
            for image in self.images:
                for place, saliency in _explained(self, model, image):
                    found[(image, network, *place)] = saliency
        return _in_rows(found, AXES.index(self.rows))


def _explained(
    axes: Axes, model: Model, image: Path
) -> Iterator[tuple[tuple[Any, ...], SaliencyMap]]:
    """Yield each map of one image under one model with its place on the other axes."""
    from visattn.explanation import Request, explain_batch
    from visattn.models.inputs import prepare_all

    prepared = prepare_all(model, str(image))
    pairs = _layers_and_heads(axes, model, prepared[0])
    none: list[Any] = [None]
    queries = [query_of(text) for text in axes.queries] or none
    places, requests = [], []
    for parts in product(axes.methods, axes.targets or none, pairs, queries):
        method, target, (layer, head), query = parts
        given = {"layers": layer, "heads": head, "query": query}
        chosen = {name: value for name, value in given.items() if value is not None}
        name, target, options = _request(axes, model, method, target, chosen)
        places.append((parts[0], parts[1], layer, head, query))
        requests.append(Request(name, target, options))
    (answers,) = explain_batch(model, prepared, requests)
    for place, answer in zip(places, answers, strict=True):
        if isinstance(answer, VisattnError):
            raise answer
        yield place, answer


def _request(
    axes: Axes, model: Model, name: str, target: str | None, chosen: Mapping[str, Any]
) -> tuple[str, Any, dict[str, Any]]:
    """Return method, target and options of one map; each option goes to the methods that have it.

    A target goes to class-specific methods alone where there are any.
    """
    from visattn.explanation import automatic_method
    from visattn.methods import get_method

    known = {method: _fields(method) for method in axes.methods if method != "auto"}
    for option in axes.options:
        if "auto" not in axes.methods and not any(option in own for own in known.values()):
            right = {each for own in known.values() for each in own}
            raise ConfigError(
                f"No method here has an option {option!r}.{suggestion(option, right)}"
            )
    wanted = target_of(target)
    if name == "auto":
        name, own = automatic_method(model, wanted, walked=bool(chosen))
        return name, wanted, {**own, **axes.options, **chosen}
    specific = [each for each in known if get_method(each).class_specific]
    if target is not None and name not in specific:
        if len(axes.targets) > 1:
            raise TargetError(
                f"{name} is class-agnostic: its map is the same for each of the targets "
                f"{', '.join(axes.targets)}. Leave it out, or give one target."
            )
        wanted = None if specific else wanted
    options = {each: value for each, value in axes.options.items() if each in known[name]}
    return name, wanted, {**options, **chosen}


def _layers_and_heads(axes: Axes, model: Model, prepared: Prepared) -> list[tuple[Any, Any]]:
    """Return each layer with each of its heads, counted layer by layer; None: the method's own."""
    layers = numbers("--layer", axes.layers, lambda: len(_layers(model, prepared, "layers")),
                     f" of {model.name}")  # fmt: skip
    known = _head_counts(model, prepared) if counts(axes.heads) else []
    pairs = list[tuple[Any, Any]]()
    for layer in layers or [None]:
        place = layer if isinstance(layer, int) and -len(known) <= layer < len(known) else -1
        of = f" of layer {place} of {model.name}"
        heads = numbers("--head", axes.heads, partial(known.__getitem__, place), of)
        pairs += [(layer, head) for head in heads or [None]]
    return pairs


def _layers(model: Model, prepared: Prepared, wanted: str) -> list[str]:
    """Return the attention operation of each layer, the first where a layer has several."""
    from visattn.adapters import Refusal, chain_of
    from visattn.errors import UnsupportedMethodError

    chain = chain_of(model.adapter, _size(prepared))
    if isinstance(chain, Refusal):
        raise UnsupportedMethodError(
            f"{model.name} has no {wanted} to choose from: {chain.reason}."
        )
    return [chain.steps[index].placements[0].operation for index in chain.layers]


def _head_counts(model: Model, prepared: Prepared) -> list[int]:
    """Return the number of heads of each layer."""
    from visattn.observation import record_pass

    names = _layers(model, prepared, "heads")
    record = record_pass(model, [prepared]).record
    heads = {each.name: int(each.shape[1]) for each in record}
    return [heads[name] for name in names]


def _size(prepared: Prepared) -> Any:
    from visattn.images import Size

    return Size(*map(int, prepared.tensor.shape[-2:]))


def _fields(method: str) -> set[str]:
    from visattn.methods import get_method

    return {each.name for each in fields(get_method(method))}


def _in_rows(
    found: Mapping[tuple[Any, ...], SaliencyMap], axis: int
) -> list[list[SaliencyMap | None]]:
    """Return maps in rows by one axis, in columns by the others; None where there is no map."""
    rows = dict[Any, "dict[tuple[Any, ...], SaliencyMap]"]()
    for place, saliency in found.items():
        rows.setdefault(place[axis], {})[place[:axis] + place[axis + 1 :]] = saliency
    columns = _ordered({place for row in rows.values() for place in row}, found, axis)
    return [[row.get(place) for place in columns] for row in rows.values()]


def _ordered(
    columns: set[tuple[Any, ...]], found: Mapping[tuple[Any, ...], SaliencyMap], axis: int
) -> list[tuple[Any, ...]]:
    """Return columns by the order of their values on each axis, models before images."""
    ranks = [
        {value: rank for rank, value in enumerate(dict.fromkeys(values))}
        for values in zip(*found, strict=True)
    ]
    del ranks[axis]
    first = [1, 0] if axis > 1 else [0, 1]
    order = [*first, *range(2, len(ranks))]
    return sorted(columns, key=lambda place: [ranks[i][place[i]] for i in order])


def require_axis(name: str) -> None:
    """Raise `ConfigError` for rows that are none of `AXES`."""
    if name not in AXES:
        raise ConfigError(f"--rows {name!r} does not exist.{suggestion(name, AXES)}")


def networks(names: Sequence[str], weights: Sequence[str]) -> list[Network]:
    """Return the models: each name with its weights, or one name with several weights."""
    if len(weights) < 2:
        return [Network(name, weights[0] if weights else "pretrained") for name in names]
    if len(names) == 1:
        return [Network(names[0], each) for each in weights]
    if len(names) == len(weights):
        return [Network(*pair) for pair in zip(names, weights, strict=True)]
    raise ConfigError(
        f"{len(weights)} --weights were given for {len(names)} --model: give one for all models, "
        "one for each, or several for one model."
    )


def loaded(network: Network, image_size: Any, device: str) -> Model:
    """Return the model of a network."""
    from visattn.models import load_model

    return load_model(
        network.name, weights=weights_of(network.weights), image_size=image_size, device=device
    )


def _unique(flag: str, values: Sequence[str]) -> None:
    for value in values:
        if values.count(value) > 1:
            raise ConfigError(f"{flag} {value} is there twice.")
