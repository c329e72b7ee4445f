"""What every metric keeps, whichever it is: declared, counted, the same alone and in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cache
from itertools import islice

import pytest

import visattn
from visattn.evaluation.bench import Bench, explained
from visattn.evaluation.case import Case
from visattn.evaluation.datasets import open_dataset
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics import HIGHER, LOWER, METRICS, NEITHER, Cost, Metric, list_metrics
from visattn.evaluation.sample import DISTRACTORS, Excluded, Sample
from visattn.evaluation.trial import Trial
from visattn.targets import resolve

METHODS = {
    "unsigned": Trial("gradcam", "gradcam"),
    "seeded": Trial("random", "random"),
    "additive": Trial("input_x_gradient", "input_x_gradient"),
}
MODELS = ("reference:vit", "reference:cbam")
COUNT = 2
QUICK = {"steps": 5, "samples": 6, "stages": 2}
OWN_MAPS = ("difull",)  # judge maps of another network, which they compute


def quick(name: str) -> Metric:
    """Return a metric with fewer steps than by default, where it has steps."""
    kind = METRICS.get(name)
    return kind(**{each.name: QUICK[each.name] for each in fields(kind) if each.name in QUICK})


@cache
def network(name: str) -> visattn.Model:
    return visattn.load_model(name)


@cache
def samples(name: str) -> tuple[Sample, ...]:
    """Return samples that have everything a metric may need."""
    found = (
        each
        for each in open_dataset("planted?objects=2,count=40").samples(network(name))
        if isinstance(each, Sample) and DISTRACTORS in each.masks
    )
    return tuple(replace(each, tile=(1, 2)) for each in islice(found, COUNT))


@cache
def _maps(name: str, kind: str) -> tuple[visattn.SaliencyMap, ...]:
    own = samples(name)
    trial = METHODS[kind]
    targets = [each.target for each in own]
    return tuple(explained(network(name), [s.prepared for s in own], trial, targets))


def cases(name: str, kind: str) -> list[Case]:
    """Return fresh cases."""
    model, made = network(name), []
    for sample, found in zip(samples(name), _maps(name, kind), strict=True):
        output = model.run(model.stack([sample.prepared]))
        (resolved,) = resolve([sample.target], model, output)
        made.append(Case(sample, METHODS[kind], found, output, resolved))
    return made


def applicable() -> list[tuple[str, str, str]]:
    """Return each metric with the first kind of map that it takes on each model."""
    found = {}
    for metric in list_metrics():
        for name in MODELS:
            for kind, trial in METHODS.items():
                model, size = network(name), samples(name)[0].size
                if METRICS.get(metric)().refusal(model, trial, size) is None:
                    found.setdefault((metric, name), kind)
    return [(metric, name, kind) for (metric, name), kind in found.items()]


APPLICABLE = applicable()


def values(verdicts: Sequence[Measured | Excluded]) -> list[object]:
    return [v.reason if isinstance(v, Excluded) else (v.value, v.parts) for v in verdicts]


def close(one: Sequence[object], other: Sequence[object]) -> bool:
    """Return whether verdicts agree: reasons to the letter, numbers to float32."""
    return all(
        a == b if isinstance(a, str) else a == pytest.approx(b, rel=1e-4, abs=2e-5)
        for pair in zip(one, other, strict=True)
        for a, b in ([pair] if isinstance(pair[0], str) else zip(*map(flat, pair), strict=True))
    )


def flat(verdict: tuple[float, tuple[float, ...]]) -> tuple[float, ...]:
    return (verdict[0], *verdict[1])


@pytest.mark.parametrize("name", list_metrics())
def test_it_declares_what_a_reader_needs(name: str) -> None:
    kind = METRICS.get(name)
    assert kind.better in (HIGHER, LOWER, NEITHER)
    assert all((kind.formula, kind.paper, kind.chance, kind.__doc__))
    assert str(kind().cost())


def test_every_metric_applies_somewhere() -> None:
    assert {metric for metric, _, _ in APPLICABLE} == set(list_metrics())


@pytest.mark.parametrize(("metric", "name", "kind"), APPLICABLE)
def test_it_costs_what_it_declares_and_a_batch_is_many_singles(
    metric: str, name: str, kind: str
) -> None:
    own = quick(metric)
    bench = Bench(network(name), batch_size=5)
    together = own.measure(bench, cases(name, kind))
    assert len(together) == COUNT
    counted, declared = (bench.passes, bench.explanations), own.cost()
    expected = (declared.forward * COUNT, declared.explanations * COUNT)
    if declared.at_most or any(isinstance(each, Excluded) for each in together):
        assert counted[0] <= expected[0]
        assert counted[1] <= expected[1]
    else:
        assert counted == expected
    alone = [own.measure(Bench(network(name)), [case])[0] for case in cases(name, kind)]
    assert close(values(together), values(alone))
    assert any(isinstance(each, Measured) for each in together)


def at_full_resolution(case: Case) -> Case:
    """Return a case whose map has a cell for each pixel of the photo, where nothing is spread."""
    prepared, size = case.sample.prepared, case.sample.size
    found = replace(
        case.found, grid=case.found.on_input(), geometry=prepared.geometry.with_grid(size)
    )
    return replace(case, found=found)


def raised(case: Case) -> Case:
    """Return a case whose map is squared, which keeps the order of values that are not negative."""
    return replace(case, found=replace(case.found, grid=case.found.grid**2))


@pytest.mark.parametrize("metric", [n for n in list_metrics() if METRICS.get(n).rank_only])
def test_ranks_alone_count_where_it_says_so(metric: str) -> None:
    own, name = quick(metric), "reference:vit"
    made = cases(name, "seeded")
    # Metrics that remove patches read the cells of a map that has one for each patch, the others
    # every pixel: in between values are averaged, and no order survives that.
    if own.cost() == Cost():
        made = [at_full_resolution(case) for case in made]
    plain = own.measure(Bench(network(name)), made)
    curved = own.measure(Bench(network(name)), [raised(case) for case in made])
    assert close(values(plain), values(curved))


@pytest.mark.parametrize(
    "metric",
    [n for n in list_metrics() if not METRICS.get(n).rank_only and n not in OWN_MAPS],
)
def test_others_change_when_a_map_is_raised_to_a_power(metric: str) -> None:
    own = quick(metric)
    _, name, kind = next(each for each in APPLICABLE if each[0] == metric)
    made = cases(name, kind)
    plain = own.measure(Bench(network(name)), made)
    curved = own.measure(Bench(network(name)), [raised(case) for case in made])
    assert not close(values(plain), values(curved))
