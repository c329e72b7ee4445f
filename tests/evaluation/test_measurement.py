"""Evaluations: controls, exclusions by name, counted passes, results that outlive a kill."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

import visattn
from tests.evaluation.additive import (
    CELL,
    COLS,
    HEIGHT,
    ROWS,
    WIDTH,
    Additive,
    Brightness,
    Noise,
    additive,
    lines_without_times,
)
from visattn.errors import CaptureError, ConfigError, UnsupportedMethodError
from visattn.evaluation import bench, folder, measurement
from visattn.evaluation.case import Case
from visattn.evaluation.config import EvaluationConfig
from visattn.evaluation.datasets import open_dataset
from visattn.evaluation.datasets.images import Images
from visattn.evaluation.ending import ending
from visattn.evaluation.measured import Measured
from visattn.evaluation.measurement import CHUNK, Measurement, fault_of
from visattn.evaluation.result import NO_NUMBER, UNFIT, Result, Results
from visattn.evaluation.run import evaluate, read_metrics
from visattn.evaluation.sample import EVIDENCE, Excluded, Sample
from visattn.evaluation.scorecard import Scorecard
from visattn.evaluation.trial import CONTROLS
from visattn.images import load_image
from visattn.models.reference import transform

METHODS = ("saliency", "input_x_gradient")


@pytest.fixture(scope="module")
def model() -> visattn.Model:
    return additive()


def run(
    model: visattn.Model,
    dataset: Noise,
    methods: Sequence[str] = METHODS,
    path: Path | None = None,
    metric: Brightness | None = None,
    **options,
) -> tuple[Scorecard, Measurement]:
    metrics = {"brightness": metric or Brightness()}
    under_way = Measurement(model, dataset, metrics, tuple(methods), Results(path), **options)
    for samples in under_way.chunks(None):
        under_way.measure(samples)
    return under_way.scorecard(0), under_way


def test_controls_stand_in_every_table_and_each_method_once(model) -> None:
    card, _ = run(model, Noise(3), ("random", "saliency"))
    assert set(card.methods) == {"saliency", "random", "center", "edges"}  # no attention here
    assert all(row.control == (row.method in CONTROLS) for row in card.rows)
    assert card.row("brightness", "saliency").against.keys() == {"random", "center", "edges"}


def test_a_control_with_options_is_a_method_like_others(model) -> None:
    card, _ = run(model, Noise(2), ("random:seed=7",))
    assert not card.row("brightness", "random:seed=7").control
    assert card.row("brightness", "random").control


def test_all_are_the_methods_that_apply(model) -> None:
    card, _ = run(model, Noise(1), ("all",), metric=Brightness(passes=1))
    assert "saliency" in card.methods
    assert "rollout" not in card.methods


def test_a_method_that_was_asked_for_and_does_not_apply_has_a_row_with_the_reason(model) -> None:
    card, _ = run(model, Noise(1), ("rollout", "saliency"))
    row = card.row("brightness", "rollout")
    assert row.interval is None
    assert row.refused


def test_samples_and_maps_that_are_left_out_are_counted_by_name(model) -> None:
    card, _ = run(model, Noise(5, broken=2, flat=3))
    assert card.excluded == {"unreadable image": 2}
    assert card.samples == 5
    assert card.row("brightness", "edges").excluded == {"constant map": 1}
    assert card.row("brightness", "edges").maps == 4
    assert card.row("brightness", "random").excluded == {}


def test_a_sample_without_what_a_metric_needs_is_left_out_by_name(model) -> None:
    @dataclass(frozen=True)
    class Bare(Noise):
        def samples(self, model: visattn.Model) -> Iterator[Sample | Excluded]:
            first, *others = super().samples(model)
            yield replace(first, masks={})
            yield from others

    card, _ = run(model, Bare(3))
    assert card.row("brightness", "saliency").excluded == {"no evidence": 1}
    assert card.row("brightness", "saliency").maps == 2


def test_a_nan_map_and_a_failed_map_are_faults_by_name(model) -> None:
    (found,) = visattn.explain(model, np.zeros((HEIGHT, WIDTH, 3), np.uint8), method="random")
    values = found.grid.copy()
    values[0, 0] = np.nan
    assert fault_of(replace(found, grid=values)).reason == measurement.UNEVEN
    assert fault_of(replace(found, grid=np.ones_like(values))).reason == measurement.CONSTANT
    assert fault_of(replace(found, silence="all gates are one")).reason == measurement.SILENT
    assert fault_of(found) is None
    failed = fault_of(CaptureError("nothing was seen of block 3"))
    assert failed.reason == "no map: CaptureError"
    assert failed.detail == "nothing was seen of block 3"


def test_a_value_that_is_not_finite_is_left_out_by_name(model) -> None:
    @dataclass(frozen=True)
    class Odd(Brightness):
        def measure(self, bench, cases):
            odd = [Measured(float("nan")), Measured(1.0, float("inf")), Measured(1.0, 0.5)]
            return odd[: len(cases)]

    card, _ = run(model, Noise(3), ("saliency",), metric=Odd())
    row = card.row("brightness", "saliency")
    assert (row.excluded, row.maps) == ({NO_NUMBER: 2}, 1)
    assert not ending(card)[1]


class AnySize(Additive):
    """A model that takes inputs of any number of cells."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.global_pool(self.first(x)).mean((2, 3)) * self.weights[:, 0, 0]


def test_what_does_not_apply_to_one_size_is_measured_and_counted_size_by_size(
    tmp_path: Path,
) -> None:
    size = (HEIGHT, WIDTH)
    model = visattn.load_model(
        AnySize(torch.ones(3, 1, 1)), transform=transform(size), image_size=size
    )

    @dataclass(frozen=True)
    class Sizes(Noise):
        def samples(self, model: visattn.Model) -> Iterator[Sample | Excluded]:
            for number, sample in enumerate(super().samples(model)):
                if number % 3 != 1:
                    yield sample
                    continue
                tensor = sample.prepared.tensor[:, :, : WIDTH - CELL]
                yield replace(sample, prepared=model.prepare_tensor(tensor), masks={})

    @dataclass(frozen=True)
    class Fussy(Brightness):
        needs: ClassVar[tuple[str, ...]] = ()

        def refusal(self, model, trial, size):
            del model, trial
            return "too narrow" if size.width < WIDTH else None

    class Never(Fussy):
        def refusal(self, model, trial, size):
            return "never"

    data = Sizes(CHUNK + 4)
    for _ in range(2):  # a second run, of known values, says the same
        card, under_way = run(
            model, data, ("input_x_gradient",), path=tmp_path / "r.jsonl", metric=Fussy()
        )
        row = card.row("brightness", "input_x_gradient")
        assert (row.maps, row.excluded, row.refused) == (8, {UNFIT: 4}, None)
    assert {each.detail for each in under_way.unfit} == {"too narrow"}
    row = run(model, data, ("input_x_gradient",), metric=Never())[0].row(
        "brightness", "input_x_gradient"
    )
    assert (row.maps, row.excluded, row.refused) == (0, {}, "never")


def test_a_map_that_fails_does_not_fail_the_others_of_its_batch(model, monkeypatch) -> None:
    whole = bench.explain_batch

    def fails(model, prepared, requests):
        if any(float(each.tensor.std()) < 1e-6 for each in prepared):
            return [[CaptureError("a flat photo")] for _ in prepared]
        return whole(model, prepared, requests)

    monkeypatch.setattr(bench, "explain_batch", fails)
    card, _ = run(model, Noise(5, flat=2), ("saliency",))
    row = card.row("brightness", "saliency")
    assert row.excluded == {"no map: CaptureError": 1}
    assert row.maps == 4


def test_passes_are_counted_and_equal_what_the_metric_declares(model) -> None:
    metric = Brightness(passes=3)
    card, under_way = run(model, Noise(11), metric=metric)
    assert {row.passes for row in card.rows} == {float(metric.cost().forward)}
    assert under_way.bench.passes == 11 + 3 * 11 * len(card.methods)  # and one for each sample
    assert all(0 < row.inside <= row.seconds for row in card.rows)


def test_batches_are_filled_across_images(model, monkeypatch) -> None:
    sizes = []
    whole = visattn.Model.run

    def seen(self, batch):
        sizes.append(len(batch))
        return whole(self, batch)

    monkeypatch.setattr(visattn.Model, "run", seen)
    run(model, Noise(8), ("saliency",), batch_size=5, metric=Brightness(passes=2))
    assert max(sizes) == 5
    assert sizes.count(5) >= 4 * 3  # 16 inputs of each of 4 methods: three full batches


def test_values_do_not_depend_on_the_size_of_batches(model) -> None:
    one, _ = run(model, Noise(9), batch_size=1)
    many, _ = run(model, Noise(9), batch_size=32)
    assert lines_without_times(one) == lines_without_times(many)


def test_no_more_than_two_chunks_of_samples_are_alive(model) -> None:
    alive: list[weakref.ref] = []
    most = 0

    @dataclass(frozen=True)
    class Watched(Noise):
        def samples(self, model: visattn.Model) -> Iterator[Sample | Excluded]:
            nonlocal most
            for each in super().samples(model):
                alive.append(weakref.ref(each))
                yield each
                del each
                most = max(most, sum(ref() is not None for ref in alive))

    run(model, Watched(6 * CHUNK), ("saliency",))
    assert most <= 2 * CHUNK


def test_a_second_run_measures_nothing_and_says_the_same(model, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first, _ = run(model, Noise(10, flat=2), path=path)
    again, under_way = run(model, Noise(10, flat=2), path=path)
    assert under_way.bench.passes == 0
    assert lines_without_times(first) == lines_without_times(again)
    assert [row.seconds for row in first.rows] == [row.seconds for row in again.rows]


def test_a_second_run_measures_what_is_new(model, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    run(model, Noise(4), ("saliency",), path=path)
    card, under_way = run(model, Noise(6), ("saliency", "input_x_gradient"), path=path)
    known = 4 * 4  # saliency and three controls
    assert under_way.bench.passes == 6 + 2 * (6 * 5 - known)
    assert card.row("brightness", "input_x_gradient").maps == 6


CHANGES = {
    "name": {"name": "other"},
    "target": {"target": 2},
    "similarity": {"target": visattn.SimilarityTarget(np.ones(3, np.float32))},
    "reference": {"target": visattn.SimilarityTarget(np.zeros(3, np.float32))},
    "metric": {"target": visattn.SimilarityTarget(np.ones(3, np.float32), "dot")},
    "label": {"label": 2},
    "masks": {"masks": {}},
    "mask": {"masks": {EVIDENCE: np.eye(HEIGHT, WIDTH, dtype=bool)}},
    "kind of mask": {"masks": {"distractors": np.eye(HEIGHT, WIDTH, dtype=bool)}},
    "tile": {"tile": (0, 2)},
    "group": {"group": "other"},
}


def test_everything_that_a_sample_is_changes_its_digest(model) -> None:
    first, second = Noise(2).samples(model)
    digests = {replace(first, **change).digest() for change in CHANGES.values()}
    digests |= {first.digest(), replace(second, name=first.name, group=first.group).digest()}
    assert len(digests) == len(CHANGES) + 2
    assert first.digest() == next(Noise(2).samples(model)).digest()


@pytest.mark.parametrize(
    "change", ["version", "dtype", "weights", "class", "options", "metric", "picture"]
)
def test_what_a_value_depends_on_is_in_its_key(
    model, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "results.jsonl"
    run(model, Noise(1), ("saliency",), path=path)
    other = additive(1) if change == "weights" else model
    if change == "version":
        monkeypatch.setattr(visattn, "__version__", "0.0.0")
    if change == "dtype":
        other = replace(model, module=copy.deepcopy(model.module).double())
    if change == "class":
        module = copy.deepcopy(model.module)
        module.__class__ = type("Other", (type(module),), {})
        other = replace(model, module=module)
    methods = ("saliency:cell=4",) if change == "options" else ("saliency",)
    metric = Brightness(passes=1) if change == "metric" else Brightness()
    dataset = Noise(1, flat=0) if change == "picture" else Noise(1)
    _, under_way = run(other, dataset, methods, path=path, metric=metric)
    assert under_way.bench.passes > 1


def test_a_torn_line_is_measured_again(model, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first, _ = run(model, Noise(3), path=path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    again, under_way = run(model, Noise(3), path=path)
    assert under_way.bench.passes == 3 + 2
    assert lines_without_times(first) == lines_without_times(again)
    assert len(path.read_bytes().splitlines()) == len(whole.splitlines())


def test_a_line_that_is_no_result_is_named(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"key": 1}\n')
    with pytest.raises(ConfigError, match="line 1 is no result"):
        Results(path)


def test_results_that_cannot_be_read_are_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").mkdir()
    with pytest.raises(ConfigError, match=r"results\.jsonl cannot be read and continued"):
        Results(tmp_path / "results.jsonl")


def test_a_place_that_cannot_be_written_is_an_error_before_anything_runs(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(folder, "load_model", lambda *_, **__: pytest.fail("it was loaded"))
    (tmp_path / "file").write_text("mine")
    fields = {"dataset": "planted", "model": "reference:vit", "methods": "auto", "metrics": "srg"}
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        folder.evaluate_to(EvaluationConfig(out=tmp_path / "file", **fields))
    monkeypatch.setattr(folder.os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match="cannot be written"):
        folder.evaluate_to(EvaluationConfig(out=tmp_path, **fields))


def test_a_result_has_a_finite_value_or_a_reason() -> None:
    with pytest.raises(ValueError, match="a value or a reason"):
        Result("k", "s", "g", "m", "x")
    with pytest.raises(ValueError, match="not finite"):
        Result("k", "s", "g", "m", "x", float("nan"))


KILLED = """
import sys
from pathlib import Path
from tests.evaluation.additive import Brightness, Noise, additive
from visattn.evaluation.measurement import Measurement
from visattn.evaluation.result import Results

under_way = Measurement(
    additive(), Noise(20), {"brightness": Brightness()}, ("saliency",), Results(Path(sys.argv[1]))
)
for samples in under_way.chunks(None):
    under_way.measure(samples)
    print("chunk", flush=True)
    sys.stdin.readline()
"""


def test_a_killed_run_is_continued(model, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, cwd=Path(__file__).parent.parent.parent,
    )  # fmt: skip
    assert child.stdout.readline() == "chunk\n"
    child.kill()
    child.communicate()
    kept = len(path.read_bytes().splitlines())
    assert kept == CHUNK * 4
    card, under_way = run(model, Noise(20), ("saliency",), path=path)
    fresh, _ = run(model, Noise(20), ("saliency",))
    assert under_way.bench.passes == (20 - CHUNK) * (1 + 2 * 4)
    assert lines_without_times(card) == lines_without_times(fresh)


def test_an_error_while_measuring_keeps_what_was_measured(model, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Stops(Brightness):
        def measure(self, bench, cases):
            if any(case.sample.name == f"noise {CHUNK}" for case in cases):
                raise KeyboardInterrupt
            return super().measure(bench, cases)

    path = tmp_path / "results.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(model, Noise(20), ("saliency",), path=path, metric=Stops())
    assert len(path.read_text().splitlines()) == CHUNK * 4


def test_the_target_of_a_case_is_the_samples_also_for_class_agnostic_maps(model) -> None:
    seen: list[Case] = []

    @dataclass(frozen=True)
    class Sees(Brightness):
        def measure(self, bench, cases):
            seen.extend(cases)
            return super().measure(bench, cases)

    run(model, Noise(4), ("saliency",), metric=Sees())
    for case in seen:
        assert case.resolved.target.index == case.sample.label
        weights = model.module.weights[case.sample.label]
        cells = case.tensor.mean(0).reshape(ROWS, CELL, COLS, CELL).mean(dim=(1, 3))
        own = (cells * weights).sum()
        assert case.scores(case.output).item() == pytest.approx(float(own), rel=1e-4)
        probability = case.output.softmax(1)[0, case.sample.label]
        assert case.scores(case.output, "probability").item() == pytest.approx(float(probability))
    with pytest.raises(ConfigError, match="'odds' is not one of logit, probability"):
        seen[0].scores(seen[0].output, "odds")


def test_the_probability_of_a_similarity_is_the_cosine_to_the_own_output(dinov2) -> None:
    image = load_image(np.random.default_rng(0).integers(0, 256, (90, 60, 3), dtype=np.uint8))
    prepared = dinov2.prepare(image)
    output = dinov2.run(dinov2.stack([prepared]))
    from visattn.evaluation.trial import Trial
    from visattn.targets import resolve

    (resolved,) = resolve(["embedding"], dinov2, output)
    (found,) = visattn.explain(dinov2, image, method="random")
    case = Case(Sample("x", prepared, "embedding"), Trial("r", "random"), found, output, resolved)
    both = torch.cat([output, -3 * output])
    assert case.scores(both, "probability").tolist() == pytest.approx([1, -1])
    assert case.scores(both)[1].item() == pytest.approx(-3 * case.scores(both)[0].item())


def test_wrong_requests_say_what_is_wrong(model) -> None:
    with pytest.raises(ConfigError, match=r"energy_pointing needs evidence, .* images alone"):
        read_metrics(["energy_pointing"], Images(Path()))
    with pytest.raises(ConfigError, match="Did you mean 'energy_pointing'"):
        read_metrics(["energy_ponting"], Noise(1))
    with pytest.raises(ConfigError, match="No metric"):
        evaluate(model, Noise(1), ["random"], [])
    with pytest.raises(ConfigError, match="No method"):
        evaluate(model, Noise(1), [], ["energy_pointing"])
    with pytest.raises(UnsupportedMethodError, match="no option 'sead'"):
        evaluate(model, Noise(1), ["random:sead=1"], ["energy_pointing"])
    with pytest.raises(ConfigError, match=r"no sample that can be used.*2 unreadable image"):
        evaluate(model, Noise(0, broken=2), ["random"], ["energy_pointing"])
    with pytest.raises(ConfigError, match="limit=0"):
        evaluate(model, Noise(1), ["random"], ["energy_pointing"], limit=0)


def test_a_mask_of_another_size_is_an_error(model) -> None:
    (sample,) = Noise(1).samples(model)
    with pytest.raises(ConfigError, match=r"evidence is bool .24, 16., the upright photo 16 x 24"):
        replace(sample, masks={EVIDENCE: np.zeros((WIDTH, HEIGHT), bool)})


def test_the_last_line_of_results_is_on_disk_before_the_next_method(model, tmp_path) -> None:
    path = tmp_path / "results.jsonl"
    sizes = []

    @dataclass(frozen=True)
    class Looks(Brightness):
        def measure(self, bench, cases):
            sizes.append(len(path.read_text().splitlines()) if path.exists() else 0)
            return super().measure(bench, cases)

    run(model, Noise(2), ("saliency",), path=path, metric=Looks())
    assert sizes == [0, 2, 4, 6]
    assert json.loads(path.read_text().splitlines()[0])["sample"] == "noise 0"


def test_a_label_is_needed_only_where_the_options_read_it(model, tmp_path: Path) -> None:
    """A folder of photos has none: the model's own choice does."""
    Image.new("RGB", (WIDTH, HEIGHT), "red").save(tmp_path / "red.png")
    data = Images(tmp_path)
    with pytest.raises(ConfigError, match="positive_perturbation needs label"):
        read_metrics(["positive_perturbation"], data)
    spec = "positive_perturbation:against=prediction"
    assert evaluate(model, data, ["saliency"], [spec]).row(spec, "saliency").maps == 1


def test_a_folder_may_have_signs_of_a_spec_in_its_name(tmp_path: Path) -> None:
    odd = tmp_path / "a:b?c=d"
    odd.mkdir()
    assert open_dataset(str(odd)) == Images(odd)
    (tmp_path / "a:b").mkdir()
    assert open_dataset(str(tmp_path / "a:b?")) == Images(tmp_path / "a:b")


def test_an_evaluation_hands_on_what_it_is_given(model, monkeypatch) -> None:
    sizes, told = [], []
    whole = visattn.Model.run

    def seen(self, batch):
        sizes.append(len(batch))
        return whole(self, batch)

    monkeypatch.setattr(visattn.Model, "run", seen)

    def card(seed: int) -> Scorecard:
        methods, metrics = ["saliency"], ["energy_pointing", "srg:steps=4"]
        return evaluate(
            model, Noise(12), methods, metrics, limit=11, batch_size=3, seed=seed,
            progress=lambda samples, values: told.append((samples, values)),
        )  # fmt: skip

    first, other = card(0), card(1)
    assert max(sizes) == 3
    assert told[:2] == [(CHUNK, CHUNK * 2 * 4), (11, 11 * 2 * 4)]
    one, two = (each.row("energy_pointing", "saliency").interval for each in (first, other))
    assert one.value == two.value
    assert (one.low, one.high) != (two.low, two.high)
    assert first.facts["seed"] == 0
