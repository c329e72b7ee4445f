"""Coverage: whether what an adapter declares fits what a model computes, from shapes alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from visattn.adapters import Adapter, Chain, Placement, Refusal, Step
from visattn.images import Size
from visattn.methods import get_method

Shape = tuple[int, int, int, int]

# One for each thing that a method may ask of a model; the others apply where one of these does.
REPRESENTATIVES = (
    "attention", "gae", "gradcam", "integrated_gradients", "layercam", "rollout", "random",
    "center",
)  # fmt: skip


@dataclass(frozen=True)
class Coverage:
    """What visattn can do with one architecture.

    Attributes:
        family: its adapter.
        refusal: why there is no walk, or None.
        misfits: operations that are not placed, or whose slots are not those that were observed.
        layout: what its tokens do, in words: ``windows``, ``merging``, ``pooled keys``, ...
        methods: which of `REPRESENTATIVES` apply.
    """

    family: str
    refusal: str | None
    misfits: tuple[str, ...]
    layout: tuple[str, ...]
    methods: tuple[str, ...]


def covered(adapter: Adapter, size: Size, shapes: Mapping[str, Shape]) -> Coverage:
    """Compare an adapter's chain with the operations (batch, head, query, key) of one image.

    ``size`` is the height and width of the input. No number is computed, so the model may be on
    torch's meta device.
    """
    chain = adapter.chain(size)
    methods = tuple(
        name for name in REPRESENTATIVES if get_method(name)().refusal(adapter, size) is None
    )
    if isinstance(chain, Refusal):
        return Coverage(adapter.family, chain.reason, (), (), methods)
    refusal = chain.refusal.reason if chain.refusal else None
    misfits = tuple(_misfits(chain, shapes))
    return Coverage(adapter.family, refusal, misfits, tuple(_words(chain)), methods)


def _steps(chain: Chain) -> tuple[Step, ...]:
    return (*chain.steps, chain.pool) if chain.pool else chain.steps


def _misfits(chain: Chain, shapes: Mapping[str, Shape]) -> Iterator[str]:
    placed = [placement for step in _steps(chain) for placement in step.placements]
    known = {placement.operation for placement in placed} | set(chain.aside)
    for name in shapes:
        if name not in known:
            yield f"{name} has no place"
    for placement in placed:
        problem = _misfit(placement, shapes.get(placement.operation))
        if problem:
            yield f"{placement.operation} {problem}"


def _misfit(placement: Placement, shape: Shape | None) -> str | None:
    if shape is None:
        return "was not observed"
    leading, slots = shape[0] * shape[1], shape[2:]
    if slots != placement.slots or leading % placement.windows:
        return f"has shape {shape}; {placement.windows} windows of {placement.slots} are declared"
    return None


def _words(chain: Chain) -> Iterator[str]:
    """Yield what the tokens of a chain do, for people."""
    steps, placed = chain.steps, [(step, p) for step in chain.steps for p in step.placements]
    kinds = {
        "prefix tokens": bool(chain.layout.prefix),
        "windows": any(p.windows > 1 for _, p in placed),
        "padding": any((p.keys.sums == 0).any() for _, p in placed),
        "merging": any(not step.placements for step in steps),
        "pooled keys": any(_pools_keys(step, p) for step, p in placed),
        "pooled queries": any(
            step.skip is not None and step.skip.size[0] != step.skip.size[1] for step, _ in placed
        ),
        "subsampling attention": any(step.skip is None for step, _ in placed),
        "class attention": any((p.queries.sums == 0).any() for _, p in placed),
        "two branches": any(step.before.suffix for step in steps),
        "attention pool": chain.pool is not None,
        "operations aside": bool(chain.aside),
    }
    yield from (word for word, there in kinds.items() if there)


def _pools_keys(step: Step, placement: Placement) -> bool:
    return bool((placement.keys.shares < 1).any()) and step.before.tokens > placement.slots[1]
