"""explain: images in, saliency maps out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

from torch import nn

import visattn
from visattn.adapters import Chain, Refusal, chain_of, remembered_chains
from visattn.errors import ConfigError, TargetError, UnsupportedMethodError, VisattnError
from visattn.images import Size
from visattn.methods import Maps, Method, get_method
from visattn.models import Model, Prepared, load_model
from visattn.models.inputs import prepare_all
from visattn.observation import AttentionRecord, record_pass
from visattn.observation.passes import NOTHING, Passed
from visattn.progress import Report, reporting
from visattn.propagation import PLAIN
from visattn.saliency import SaliencyMap, Target
from visattn.sinks import NO_STATISTICS, attention_statistics, outlier_warnings
from visattn.statistics import concentration, lattice, no_signal, summary
from visattn.targets import ContrastTarget, predictions

BATCH_SIZE = 8
GAMMA = {"gamma_linear": 0.25, "gamma_convolution": 0.25}
REGULAR = 0.5


@dataclass(frozen=True, eq=False)
class Request:
    """One method with its target and options."""

    method: str
    target: Any = None
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Job:
    """A request that applies to the model: its place in the answer and the method built."""

    place: int
    request: Request
    method: Method

    @property
    def target(self) -> Any:
        """The target whose score this job explains."""
        return self.method.explains(self.request.target)


def explain(
    model: Model | nn.Module | str,
    images: Any,
    *,
    method: str = "auto",
    target: Any = None,
    query: Any = None,
    layers: Any = None,
    heads: Any = "mean",
    batch_size: int | None = None,
    progress: Report | None = None,
    **options: Any,
) -> list[SaliencyMap]:
    """Explain where a model looks, one map per image.

    Args:
        model: from `visattn.load_model`, or an ``nn.Module``, or a name.
        images: a path, Pillow image, uint8 array (height, width, 3) in RGB, a list of those, or a
            preprocessed float tensor (batch, channel, row, col).
        method: a name of `visattn.list_methods`; ``auto`` is `automatic_method`.
        target: what a class-specific method explains: None (the predicted class), an index, a
            label, ``top1`` to ``top5``, ``embedding`` (the image's own embedding), ``text:...`` for
            a vision-language model, a callable ``outputs (batch, ...) -> scores (batch,)``, a
            `visattn.SimilarityTarget` or `visattn.TextTarget`, or a list with one of these per
            image. Class-agnostic methods refuse a target.
        query: None (the tokens that the head really reads), ``cls``, ``mean``, the name of another
            prefix token (``register 1``, ``object 7``), a patch (row, col) of the last grid, or
            `visattn.Pixel`.
        layers: None, an int, a slice or a list of ints; negative ones count from the end.
        heads: ``mean``, ``max``, ``min``, an int or a list.
        batch_size: images per pass; 8 by default.
        progress: ``(work, done, total)`` is called while methods with many passes run, first
            with ``done`` = 0 and the expected number of passes.
        **options: parameters of the method.

    Raises:
        ImageError: an image cannot be read.
        TargetError: the target does not fit the model.
        UnsupportedMethodError: the method does not apply to the model, or has no such option.
        CaptureError: no attention was observed.
    """
    known = model if isinstance(model, Model) else load_model(model)
    prepared = prepare_all(known, images)
    own = Size(*map(int, prepared[0].tensor.shape[-2:])) if prepared else None
    name, own_options = method, dict[str, Any]()
    if method == "auto":
        walked = query is not None or layers is not None
        name, own_options = automatic_method(known, target, own, walked=walked)
    given = {"query": query, "layers": layers, "heads": None if heads == "mean" else heads}
    chosen = {
        **own_options,
        **{key: value for key, value in given.items() if value is not None},
        **options,
    }
    size = BATCH_SIZE if batch_size is None else batch_size
    if size < 1:
        raise ConfigError(f"batch_size={batch_size!r} is not at least 1.")
    if isinstance(target, (list, tuple)) and len(target) != len(prepared):
        raise TargetError(f"{len(target)} targets were given for {len(prepared)} images.")
    maps = []
    for start in range(0, len(prepared), size):
        part = prepared[start : start + size]
        several = isinstance(target, (list, tuple))
        wanted = list(target[start : start + size]) if several else target
        with reporting(progress):
            answers = explain_batch(known, part, [Request(name, wanted, chosen)])
        for (result,) in answers:
            if isinstance(result, VisattnError):
                raise result
            maps.append(result)
    return maps


def automatic_method(
    model: Model, target: Any = None, size: Size | None = None, *, walked: bool = False
) -> tuple[str, dict[str, Any]]:
    """Return method and options that ``auto`` stands for, for inputs of ``size`` or the model's.

    Where there is a class or a target to explain: `cp_lrp` with the gamma rule, read at the tokens
    that enter the first block, for plain transformers; the same read at the input for other models
    with attention over tokens; `gradcam` for convolutional networks. Without a target: `rollout`,
    and `eigencam` where no attention is walked. ``walked``, a query or layers were chosen: `gae`
    or `rollout`, which take them. The measurements are in docs/evidence.md.
    """
    size = size or model.input_size or Size(224, 224)

    def applies(name: str, options: dict[str, Any]) -> bool:
        return get_method(name).create(name, options).refusal(model.adapter, size) is None

    explains = model.has_classifier or target is not None
    if walked:
        return ("gae" if explains else "rollout"), {}
    if not explains:
        return ("rollout", {}) if applies("rollout", {}) else ("eigencam", {})
    tokens = {"readout": "tokens", **GAMMA}
    if applies("cp_lrp", tokens):
        return "cp_lrp", tokens
    convolutional = isinstance(chain_of(model.adapter, size), Refusal)
    return ("gradcam", {}) if convolutional and applies("gradcam", {}) else ("cp_lrp", GAMMA)


@remembered_chains()
def explain_batch(
    model: Model, prepared: Sequence[Prepared], requests: Sequence[Request]
) -> list[list[SaliencyMap | VisattnError]]:
    """Answer several requests on one batch with as few passes as possible.

    Requests with the same target share one forward and backward pass, and class-agnostic ones ride
    along. Returns, for each image, one result per request in their order; a request that does not
    apply is answered by its error, in place.
    """
    size = Size(*map(int, prepared[0].tensor.shape[-2:]))
    answers: list[list[SaliencyMap | VisattnError]] = [[] for _ in requests]
    jobs, listed = [], dict[str, str]()
    for place, request in enumerate(requests):
        try:
            jobs.append(Job(place, request, _method(model, request, size, listed)))
        except VisattnError as error:
            answers[place] = [error] * len(prepared)
    for group in _groups(jobs):
        _answer(model, prepared, group, answers)
    return [list(results) for results in zip(*answers, strict=True)]


def _method(model: Model, request: Request, size: Size, listed: dict[str, str]) -> Method:
    """Return the method of a request, or raise; ``listed`` keeps what applies for each query."""
    kind = get_method(request.method)
    method = kind.create(request.method, dict(request.options))
    if not method.class_specific and request.target is not None:
        raise UnsupportedMethodError(
            f"{request.method} is class-agnostic: its map is the same for every target, so it "
            f"refuses target={request.target!r}. Class-specific methods are "
            f"{', '.join(_class_specific())}."
        )
    reason = method.refusal(model.adapter, size)
    if reason:
        query = request.options.get("query")
        if repr(query) not in listed:
            listed[repr(query)] = ", ".join(_applicable(model, size, query))
        raise UnsupportedMethodError(
            f"{request.method} does not apply to {model.name}: {reason}. Methods that apply: "
            f"{listed[repr(query)]}."
        )
    return method


def _applicable(model: Model, size: Size, query: Any) -> list[str]:
    """Return the methods that a model does not refuse, asked for the same query."""
    return [name for name in visattn.list_methods() if _applies(name, model, size, query)]


def _applies(name: str, model: Model, size: Size, query: Any) -> bool:
    kind = get_method(name)
    takes = any(known.name == "query" for known in fields(kind))
    try:
        method = kind.create(name, {"query": query} if takes else {})
    except UnsupportedMethodError:  # the query does not go with the method's other defaults
        return False
    return method.refusal(model.adapter, size) is None


def _class_specific() -> list[str]:
    return [name for name in visattn.list_methods() if get_method(name).class_specific]


def _groups(jobs: Sequence[Job]) -> list[list[Job]]:
    """Group class-specific jobs by target and rules; class-agnostic ones join the first group."""
    groups: list[list[Job]] = []
    for job in (job for job in jobs if job.method.class_specific):
        for group in groups:
            same_rules = group[0].method.rules == job.method.rules
            if same_rules and _same(group[0].target, job.target):
                group.append(job)
                break
        else:
            groups.append([job])
    agnostic = [job for job in jobs if not job.method.class_specific]
    if groups:
        groups[0].extend(agnostic)
        return groups
    return [agnostic] if agnostic else []


def _same(one: Any, other: Any) -> bool:
    plain = (str, int, type(None), ContrastTarget)
    return one is other or (isinstance(one, plain) and type(one) is type(other) and one == other)


def _answer(
    model: Model,
    prepared: Sequence[Prepared],
    jobs: Sequence[Job],
    answers: list[list[SaliencyMap | VisattnError]],
) -> None:
    """Run one pass for a group of jobs; if it fails, each job has a pass of its own."""
    try:
        passed = _pass(model, prepared, jobs)
    except VisattnError as error:
        if len(jobs) == 1:
            answers[jobs[0].place] = [error] * len(prepared)
        else:
            for job in jobs:
                _answer(model, prepared, [job], answers)
        return
    numbers = cache(lambda: attention_statistics(passed.record))
    for job in jobs:
        try:
            answers[job.place] = list(_maps(model, prepared, job, passed, numbers))
        except VisattnError as error:
            answers[job.place] = [error] * len(prepared)


def _pass(model: Model, prepared: Sequence[Prepared], jobs: Sequence[Job]) -> Passed:
    specific = [job for job in jobs if job.method.class_specific]
    sites = {site: None for job in jobs for site in job.method.sites(model.adapter)}
    if any(job.method.attention for job in jobs):
        sites |= {site: None for site in model.adapter.block_sites() if site is not None}
    return record_pass(
        model,
        prepared,
        target=specific[0].target if specific else NOTHING,
        attention=any(job.method.attention for job in jobs),
        sites=list(sites),
        rules=specific[0].method.rules if specific else PLAIN,
        gradients=any(job.method.gradients for job in specific),
        gates=any(job.method.gates for job in jobs),
        keep=list(dict.fromkeys(keep for job in jobs for keep in job.method.keeps())),
    )


def _maps(
    model: Model,
    prepared: Sequence[Prepared],
    job: Job,
    passed: Passed,
    numbers: Callable[[], list[dict[str, Any]]],
) -> list[SaliencyMap]:
    record = passed.record
    grid, cell = model.adapter.grid(record.size)
    found = job.method(record, [item.geometry.with_grid(grid, cell) for item in prepared])
    values = found.values.detach().float().cpu().numpy()
    # After the method, whose walk has summed up most of what the statistics need.
    attention = numbers() if job.method.attention else None
    firsts = predictions(model, record.outputs)
    maps = []
    for index, item in enumerate(prepared):
        extra = attention[index] if attention else NO_STATISTICS
        target = passed.targets[index] if job.method.class_specific else None
        maps.append(
            SaliencyMap(
                grid=values[index],
                geometry=item.geometry.with_grid(Size(*values[index].shape), found.cell),
                method=job.request.method,
                model=model.name,
                signed=found.signed[index] if found.signed else job.method.signed,
                target=target,
                prediction=firsts[index],
                warnings=(
                    *_warnings(model, values[index], found, index, item, target),
                    *_artefact_warnings(job, found, extra),
                    *_walk_notes(job, record, values[index]),
                ),
                statistics={**summary(values[index]), **extra},
                provenance=_provenance(model, job, found, index, item),
                photo=item.image if item.image.path is None else None,
                silence=found.silent[index] if found.silent else None,
                channels=found.channels[index] if found.channels else None,
            )
        )
    return maps


def _warnings(
    model: Model, values: Any, found: Maps, index: int, item: Prepared, target: Target | None
) -> tuple[str, ...]:
    notes = list(found.warnings[index]) if found.warnings else []
    silent = found.silent[index] if found.silent else None
    reason = silent or no_signal(values)
    if reason:
        notes.append(f"no signal: {reason}")
    share = None if reason else concentration(values)
    if share is not None:
        notes.append(
            f"one cell holds {share:.1%} of the map and sets the scale; "
            "normalization=percentile shows the rest"
        )
    if target is not None and target.probability is not None and target.probability < 0.01:
        notes.append(f"the model gives {target.label} only {target.probability:.2%}")
    return (*notes, *model.adapter.notes, *item.image.notes)


def _artefact_warnings(job: Job, found: Maps, attention: Mapping[str, Any]) -> list[str]:
    """Return notes on sinks and high-norm tokens in the layers that a method walked as they are."""
    options = job.method.options()
    if not job.method.walks or options.get("outliers", "keep") != "keep":
        return []
    treatable = "outliers" in options
    return outlier_warnings(attention, found.facts.get("layers"), treatable=treatable)


def _walk_notes(job: Job, record: AttentionRecord, values: Any) -> tuple[str, ...]:
    """Return what a reader must know of a walk through all steps of the model."""
    chain = chain_of(record.adapter, record.size)
    if not job.method.walks or not isinstance(chain, Chain):
        return ()
    share = lattice(values)
    if share is None or share < REGULAR:
        return chain.notes
    note = (
        f"{share:.0%} of the map's variance is a pattern of every second cell, which comes from "
        "strided layers and not from the photo; attention of single layers does not have it"
    )
    return (note, *chain.notes)


def _provenance(model: Model, job: Job, found: Maps, index: int, item: Prepared) -> dict[str, Any]:
    import timm
    import torch

    return {
        "visattn": visattn.__version__,
        "torch": torch.__version__,
        "timm": timm.__version__,
        "model": model.facts(),
        "options": {key: _plain(value) for key, value in job.method.options().items()},
        "changed": {key: _plain(value) for key, value in job.method.changed().items()},
        "target": _plain(job.request.target),
        "image": {
            "path": None if item.image.path is None else str(item.image.path),
            "sha256": item.image.sha256,
        },
        **found.facts,
        **(found.measured[index] if found.measured else {}),
    }


def _plain(value: Any) -> Any:
    """Return a value that JSON can hold: itself, or its description."""
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return repr(value)
