"""Sanity metrics on models and methods whose answer is known."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn

import visattn
from tests.evaluation.judging import judged, values
from visattn.errors import ConfigError, ModelError, UnsupportedMethodError
from visattn.evaluation import randomization
from visattn.evaluation.bench import Bench
from visattn.evaluation.metrics import METRICS, read_metric
from visattn.evaluation.metrics.max_sensitivity import MaxSensitivity
from visattn.evaluation.metrics.metric import HIGHER, LOWER
from visattn.evaluation.metrics.shift_stability import ShiftStability, shifted
from visattn.evaluation.rerun import kept_target
from visattn.evaluation.sample import Excluded
from visattn.evaluation.seeding import generator
from visattn.evaluation.similarity import similarity
from visattn.evaluation.trial import Trial
from visattn.images import Size
from visattn.models.digest import weights_digest

SIZE = Size(32, 48)
NAMES = (
    "mprt", "emprt", "random_logit", "max_sensitivity", "flip_stability", "shift_stability",
    "seed_variance",
)  # fmt: skip
SEEDED = "smoothgrad:samples=2"


def photos(count: int) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(3)
    return [torch.rand(3, *SIZE, generator=draw) for _ in range(count)]


@pytest.fixture(scope="module")
def vit() -> visattn.Model:
    torch.manual_seed(0)
    module = timm.create_model(
        "vit_tiny_patch16_224", img_size=tuple(SIZE), patch_size=8, embed_dim=12, depth=3,
        num_heads=2, num_classes=5,
    )  # fmt: skip
    return visattn.load_model(module)


@pytest.fixture(scope="module")
def cnn() -> visattn.Model:
    """A network of kernels that equal their mirror image, which any flip leaves as it is."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 4, 4), nn.Tanh(), nn.Conv2d(6, 6, 3, padding=1), nn.Tanh(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4),
    )  # fmt: skip
    with torch.no_grad():
        for part in (module[0], module[2]):
            part.weight += part.weight.flip(3)
    return visattn.load_model(module, labels=list("abcd"))


@pytest.fixture(scope="module")
def linear() -> visattn.Model:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 48, 4))
    return visattn.load_model(module, labels=list("abcd"))


def measured(spec: str, model: visattn.Model, method: str, count: int = 2) -> list[float]:
    cases = judged(model, method, photos(count), [1, 2, 3, 0][:count])
    return values(read_metric(spec)[1], Bench(model), cases)


@pytest.mark.parametrize("name", NAMES)
def test_metrics_declare_what_they_are(name):
    kind = METRICS.get(name)
    lower = name in ("mprt", "random_logit", "max_sensitivity")
    assert kind.better == (LOWER if lower else HIGHER)
    assert kind.formula
    assert kind.paper
    assert kind.chance


@pytest.mark.parametrize("name", NAMES)
def test_the_cost_is_what_the_bench_counts_and_batches_do_not_matter(vit, name):
    metric = read_metric(name)[1]
    cases = judged(vit, SEEDED, photos(3), [1, 2, 3])
    bench = Bench(vit)
    together = values(metric, bench, cases)
    assert bench.explanations == metric.cost().explanations * 3
    assert bench.passes == metric.cost().forward == 0
    alone = [values(metric, bench, [case])[0] for case in cases]
    assert together == pytest.approx(alone, abs=1e-3)
    assert values(metric, Bench(vit), cases[::-1]) == pytest.approx(together[::-1], abs=1e-3)
    assert len(set(together)) == 3


@pytest.mark.parametrize("name", NAMES)
def test_no_cases_have_no_values(vit, name):
    assert list(read_metric(name)[1].measure(Bench(vit), [])) == []


# ---- randomisation


def test_what_ignores_the_model_does_not_change_and_a_gradient_does(vit):
    assert measured("mprt", vit, "center") == [pytest.approx(1)] * 2
    assert measured("mprt:similarity=ssim", vit, "edges") == [pytest.approx(1)] * 2
    assert measured("emprt", vit, "center") == [0, 0]
    assert all(abs(value) < 0.6 for value in measured("mprt", vit, "input_x_gradient"))


def test_weights_of_a_linear_model_become_independent(linear):
    """Its map is its weights: after one draw of 24 cells the correlation is that of noise."""
    found = measured("mprt", linear, "saliency:cell=1", 4)
    assert all(abs(value) < 0.1 for value in found)


def test_mprt_is_the_mean_over_cascading_models(vit):
    case = judged(vit, "attention", photos(1))[0]
    drawn = randomization.Randomization.of(vit, case.tensor, 0)
    expected = []
    for stage in drawn.stages("top_down", 4):
        # By hand: a plain copy into which the random tensors are loaded.
        torch.manual_seed(0)
        module = timm.create_model(
            "vit_tiny_patch16_224", img_size=tuple(SIZE), patch_size=8, embed_dim=12, depth=3,
            num_heads=2, num_classes=5,
        )  # fmt: skip
        state = drawn.module.state_dict()
        names = [name for layer in stage for name in layer.parameters]
        module.load_state_dict({**vit.module.state_dict(), **{n: state[n] for n in names}})
        found = visattn.explain(visattn.load_model(module), case.tensor[None], method="attention")
        expected.append(similarity(case.found.grid, found[0].grid))
    metric = read_metric("mprt:stages=4")[1]
    assert values(metric, Bench(vit), [case]) == pytest.approx([np.mean(expected)], abs=1e-6)
    assert len({round(value, 6) for value in expected}) > 1


def test_emprt_is_the_relative_rise_of_the_entropy_of_the_histogram(vit):
    case = judged(vit, "saliency", photos(1), [2])[0]
    drawn = randomization.Randomization.of(vit, case.tensor, 0)
    (model,) = drawn.models(vit, "top_down", 1)
    random = judged(model, "saliency", photos(1), [2])[0]

    def naive(grid: np.ndarray, bins: int) -> float:
        low, high = float(grid.min()), float(grid.max())
        places = [min(int((float(v) - low) / (high - low) * bins), bins - 1) for v in grid.flat]
        shares = [places.count(place) / len(places) for place in set(places)]
        return -sum(p * np.log(p) for p in shares)

    before, after = naive(case.found.grid, 7), naive(random.found.grid, 7)
    metric = read_metric("emprt:bins=7")[1]
    assert values(metric, Bench(vit), [case]) == pytest.approx([(after - before) / before])


def test_orders_and_seeds_give_other_values_and_the_same_twice(vit):
    specs = ("mprt", "mprt:order=bottom_up", "mprt:order=independent", "mprt:seed=1")
    found = [tuple(measured(spec, vit, "gae")) for spec in specs]
    assert len(set(found)) == 4
    assert tuple(measured("mprt", vit, "gae")) == found[0]


def test_a_gamma_of_the_map_leaves_ranks_and_moves_ssim(vit):
    (case,) = judged(vit, "gae", photos(1), [1])
    bent = replace(
        case, found=replace(case.found, grid=(case.found.grid - case.found.grid.min()) ** 3)
    )
    for name in ("mprt", "random_logit", "flip_stability", "shift_stability"):
        for kind, same in (("spearman", True), ("ssim", False)):
            metric = read_metric(f"{name}:similarity={kind}")[1]
            plain, other = (values(metric, Bench(vit), [each])[0] for each in (case, bent))
            assert (abs(plain - other) < 1e-4) == same == metric.ranks_alone(), (name, kind)
        assert not read_metric(f"{name}:absolute=True")[1].ranks_alone()
    sensitivity = read_metric("max_sensitivity:samples=1")[1]
    plain, other = (values(sensitivity, Bench(vit), [each])[0] for each in (case, bent))
    assert abs(plain - other) > 1e-4
    assert not METRICS.get("max_sensitivity").rank_only
    assert not METRICS.get("emprt").rank_only


class Silent(nn.Module):
    """A network whose random copies have a gradient of zero: its gate starts shut."""

    class Gate(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 1, 1))

        def reset_parameters(self) -> None:
            nn.init.zeros_(self.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.weight * x

    def __init__(self) -> None:
        super().__init__()
        self.gate = self.Gate()
        self.last = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 48, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.gate(x))


def test_a_random_map_without_signal_is_excluded_by_name():
    model = visattn.load_model(Silent(), labels=["a", "b"])
    cases = judged(model, "saliency", photos(2), [0, 1])
    for name in ("mprt", "emprt"):
        found = read_metric(name)[1].measure(Bench(model), cases)
        assert found == [Excluded("no signal in a map to compare with")] * 2


def test_a_model_that_cannot_be_copied_is_excluded_by_name(vit, monkeypatch):
    def refusing(*arguments: Any) -> None:
        raise ModelError("no copy")

    monkeypatch.setattr(randomization.Randomization, "of", refusing)
    cases = judged(vit, "center", photos(1))
    for name in ("mprt", "emprt"):
        found = read_metric(name)[1].measure(Bench(vit), cases)
        assert found == [Excluded("the model cannot be copied")]


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_bitwise_unchanged_and_errors_are_told(vit, name, monkeypatch):
    cases = judged(vit, SEEDED, photos(2), [1, 2])
    digest = weights_digest(vit.module)
    read_metric(name)[1].measure(Bench(vit), cases)
    assert weights_digest(vit.module) == digest

    def failing(*arguments: Any) -> list[Any]:
        return [UnsupportedMethodError("not for 7 cells")] * len(arguments[1])

    monkeypatch.setattr(Bench, "explain", failing)
    found = read_metric(name)[1].measure(Bench(vit), cases)
    assert found == [Excluded("no map to compare with (UnsupportedMethodError)")] * 2

    def interrupted(*arguments: Any) -> list[Any]:
        raise KeyboardInterrupt

    monkeypatch.setattr(Bench, "explain", interrupted)
    with pytest.raises(KeyboardInterrupt):
        read_metric(name)[1].measure(Bench(vit), cases)
    assert weights_digest(vit.module) == digest


# ---- random logit


def test_another_class_of_a_class_agnostic_method_has_the_same_map(vit):
    cases, bench = judged(vit, "rollout", photos(2)), Bench(vit)
    assert values(read_metric("random_logit")[1], bench, cases) == [1.0, 1.0]
    assert bench.explanations == 0


def test_random_logit_is_the_similarity_with_the_class_that_was_drawn(vit):
    cases = judged(vit, "input_x_gradient", photos(4), [0, 4, None, 2])
    metric = read_metric("random_logit:seed=3")[1]
    others = [metric.other(case) for case in cases]
    expected = [
        similarity(
            case.found.grid, judged(vit, "input_x_gradient", [case.tensor], [other])[0].found.grid
        )
        for case, other in zip(cases, others, strict=True)
    ]
    assert values(metric, Bench(vit), cases) == pytest.approx(expected, abs=1e-4)


def test_the_class_that_is_drawn_is_any_but_the_own(vit):
    (case,) = judged(vit, "saliency", photos(1), [2])
    drawn = {read_metric(f"random_logit:seed={seed}")[1].other(case) for seed in range(60)}
    assert drawn == {0, 1, 3, 4}


def test_random_logit_needs_a_classifier_and_a_class(vit):
    metric = read_metric("random_logit")[1]
    bare = visattn.load_model(timm.create_model("vit_tiny_patch16_224", num_classes=0, depth=1))
    trial = Trial("saliency", "saliency")
    assert "has no classes" in str(metric.refusal(bare, trial, SIZE))
    assert metric.refusal(vit, trial, SIZE) is None
    cases = judged(vit, "saliency", photos(2), [lambda outputs: outputs.sum(dim=1), 1])
    first, second = metric.measure(Bench(vit), cases)
    assert first == Excluded("the target is no class")
    assert not isinstance(second, Excluded)


def test_opposite_classes_of_one_output_have_opposite_maps():
    model = visattn.load_model(nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 48, 1)))
    (case,) = judged(model, "input_x_gradient", photos(1), [1])
    assert values(read_metric("random_logit")[1], Bench(model), [case]) == [pytest.approx(-1)]


# ---- sensitivity


def test_the_gradient_of_a_linear_model_is_not_sensitive(linear):
    assert measured("max_sensitivity", linear, "saliency") == [0, 0]
    assert measured("max_sensitivity", linear, "center") == [0, 0]
    assert min(measured("max_sensitivity", linear, "input_x_gradient")) > 1e-3


def test_sensitivity_is_the_largest_relative_change(cnn):
    (case,) = judged(cnn, "saliency", photos(1), [1])
    metric = MaxSensitivity(radius=0.5, samples=4, seed=2)
    changes = list(metric.changes(case))
    assert all(float(change.abs().max()) <= 0.5 for change in changes)
    assert all(float(change.max()) > 0.49 and float(change.min()) < -0.49 for change in changes)
    moved = []
    for change in changes:
        found = judged(cnn, "saliency", [case.tensor + change], [1])[0].found.grid.astype(float)
        own = case.found.grid.astype(float)
        gap = sum((a - b) ** 2 for a, b in zip(found.flat, own.flat, strict=True)) ** 0.5
        moved.append(gap / sum(v**2 for v in own.flat) ** 0.5)
    bench = Bench(cnn)
    assert values(metric, bench, [case]) == pytest.approx([max(moved)], rel=1e-4)
    mean = values(replace(metric, average=True), bench, [case])
    assert mean == pytest.approx([np.mean(moved)], rel=1e-4)
    assert mean[0] < max(moved)


def test_the_class_stays_where_the_prediction_is_another(vit):
    """Inputs that are changed far beyond what keeps the prediction are explained for the first."""
    (case,) = judged(vit, "saliency", photos(1))
    assert kept_target(case) == case.resolved.target.index
    embedding = judged(vit, "saliency", photos(1), ["embedding"])[0]
    score = kept_target(embedding)
    unit = embedding.output / embedding.output.norm()
    outputs = torch.randn(2, 5)
    assert torch.allclose(score(outputs), (outputs @ unit.T)[:, 0], atol=1e-6)


# ---- flips and shifts


def test_a_mirrored_kernel_flips_the_map_and_another_does_not(cnn):
    assert measured("flip_stability", cnn, "saliency:cell=4") == [pytest.approx(1, abs=1e-3)] * 2
    assert max(measured("flip_stability:direction=vertical", cnn, "saliency:cell=4")) < 0.999
    assert measured("flip_stability", cnn, "edges") == [pytest.approx(1, abs=0.05)] * 2
    assert (
        measured("flip_stability:similarity=iou", cnn, "saliency:cell=4")
        == [pytest.approx(1, abs=1e-3)] * 2
    )


def test_a_kernel_that_equals_its_upside_down_flips_the_map_vertically(cnn):
    module = copy.deepcopy(cnn.module)
    with torch.no_grad():
        for part in (module[0], module[2]):
            part.weight.copy_(part.weight.transpose(2, 3).clone())
    model = visattn.load_model(module, labels=list("abcd"))
    spec = "flip_stability:direction=vertical"
    assert measured(spec, model, "saliency:cell=4") == [pytest.approx(1, abs=1e-3)] * 2
    assert max(measured("flip_stability", model, "saliency:cell=4")) < 0.999


def test_changes_are_those_of_the_sample(linear):
    one, other = judged(linear, "saliency", photos(2), [1, 1])
    first, again, second = (next(MaxSensitivity().changes(case)) for case in (one, one, other))
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, next(MaxSensitivity(seed=1).changes(one)))


def test_controls_behave_as_they_should_under_flips_and_shifts(vit):
    assert measured("flip_stability", vit, "center") == [pytest.approx(1)] * 2
    assert all(abs(value) < 0.6 for value in measured("flip_stability", vit, "random"))
    assert max(measured("shift_stability", vit, "center")) < 0.99
    assert min(measured("shift_stability", vit, "edges")) > 0.8


def test_cells_that_stick_out_of_the_input_have_no_mirror_image(cnn):
    cases = judged(cnn, "saliency:cell=7", photos(1), [1])
    found = read_metric("flip_stability")[1].measure(Bench(cnn), cases)
    assert found == [Excluded("the cells do not cover the input evenly")]


@pytest.mark.parametrize(("down", "right"), [(0, 2), (3, 0), (0, -2), (-3, 0)])
def test_inputs_move_and_what_comes_in_is_as_stated(down, right):
    tensor = torch.arange(2 * 5 * 7.0).reshape(2, 5, 7)
    for fill in ("edge", "mean", "wrap"):
        found = shifted(tensor, down, right, fill)
        for channel, row, col in np.ndindex(2, 5, 7):
            there = (row - down, col - right)
            inside = 0 <= there[0] < 5 and 0 <= there[1] < 7
            near = (min(max(there[0], 0), 4), min(max(there[1], 0), 6))
            outside = {
                "edge": tensor[channel, near[0], near[1]],
                "mean": tensor[channel].mean(),
                "wrap": tensor[channel, there[0] % 5, there[1] % 7],
            }[fill]
            expected = tensor[channel, there[0], there[1]] if inside else outside
            assert float(found[channel, row, col]) == pytest.approx(float(expected))


def test_a_model_of_single_patches_shifts_with_the_photo():
    """Its gradient in a patch depends on that patch alone, so common cells agree exactly."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 5, 8, 8), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)
    )
    model = visattn.load_model(module, labels=list("abc"))
    for spec in ("shift_stability", "shift_stability:fill=wrap", "shift_stability:fill=mean"):
        assert measured(spec, model, "saliency:cell=8") == [pytest.approx(1)] * 2


def test_shifts_are_whole_cells_of_the_map_and_of_the_model(vit):
    metric = ShiftStability()
    cases = {cell: judged(vit, f"saliency:cell={cell}", photos(1), [1])[0] for cell in (8, 4, 3)}
    assert metric.step(vit, cases[8]) == (1, 1)
    assert metric.step(vit, cases[4]) == (2, 2)
    assert metric.step(vit, cases[3]) == Excluded("too few cells for a shift")
    assert replace(metric, patches=2).step(vit, cases[8]) == (2, 2)
    assert replace(metric, patches=3).step(vit, cases[8]) == Excluded("too few cells for a shift")
    bench = Bench(vit)
    first, second = metric.measure(bench, [cases[3], cases[8]])
    assert first == Excluded("too few cells for a shift")
    assert second == metric.measure(bench, [cases[8]])[0]
    assert bench.explanations == 8


# ---- seeds


def test_seeds_are_compared_in_pairs_and_deterministic_methods_refused(vit):
    metric = read_metric("seed_variance:seeds=4")[1]
    method = "smoothgrad:samples=2,seed=5"
    (case,) = judged(vit, method, photos(1), [1])
    grids = [
        judged(vit, f"smoothgrad:samples=2,seed={seed}", photos(1), [1])[0].found.grid
        for seed in range(5, 9)
    ]
    expected = np.mean([similarity(one, other) for one, other in combinations(grids, 2)])
    assert values(metric, Bench(vit), [case]) == pytest.approx([expected], abs=1e-5)
    for refused in ("gae", "center"):
        assert f"{refused} is deterministic" in str(
            metric.refusal(vit, Trial.read(refused, vit), SIZE)
        )
    assert metric.refusal(vit, case.trial, SIZE) is None


def test_more_samples_make_seeds_agree_and_noise_never_does(cnn):
    few, many = (
        np.mean(measured("seed_variance", cnn, f"smoothgrad:samples={n}")) for n in (1, 30)
    )
    assert many > few + 0.05
    assert abs(np.mean(measured("seed_variance", cnn, "random", 4))) < 0.5


# ---- options


def faults() -> Iterator[tuple[str, str]]:
    yield "mprt:similarity=pearson", "similarity='pearson' is not one of spearman"
    yield "mprt:order=sideways", "top_down"
    yield "mprt:stages=0", "at least 1"
    yield "mprt:absolute=1", "absolute=1 is not True or False"
    yield "mprt:stages=2.5", "not an integer"
    yield "emprt:bins=1", "at least 2"
    yield "max_sensitivity:samples=0", "at least 1"
    yield "max_sensitivity:radius=-1.0", "at least 0"
    yield "flip_stability:direction=diagonal", "horizontal"
    yield "shift_stability:fill=black", "edge"
    yield "seed_variance:seeds=1", "at least 2"
    yield "random_logit:classes=2", "no option"


@pytest.mark.parametrize(("spec", "words"), list(faults()))
def test_bad_options_are_refused(spec, words):
    with pytest.raises(ConfigError, match=words):
        read_metric(spec)


def test_random_numbers_depend_on_name_and_seed():
    draws = [generator(name, seed).random() for name in ("a", "b", "é\udc80") for seed in (0, 1)]
    assert len(set(draws)) == 6
    assert draws[0] == generator("a", 0).random()
