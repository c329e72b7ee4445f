"""Infidelity and completeness: maps that share out a score, exactly, wrongly, or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.judging import judged
from tests.evaluation.removing import (
    CELL,
    COLS,
    ROWS,
    additive,
    case_of,
    contributions,
    logits,
    metric,
    picture,
    value,
    weights_of,
)
from visattn.evaluation.bench import Bench
from visattn.evaluation.sample import Excluded
from visattn.evaluation.trial import Trial
from visattn.evaluation.units import Units
from visattn.images import Size
from visattn.methods import get_method, list_methods

EXACT = ("input_x_gradient", "integrated_gradients", "cp_lrp", "attnlrp", "occlusion")
ADDITIVE = {
    "input_x_gradient", "integrated_gradients", "gradient_shap", "occlusion", "cp_lrp", "attnlrp",
    "reslrp",
}  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return additive()


def noise(seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((ROWS, COLS))


@pytest.mark.parametrize("perturbation", ["square", "noise"])
def test_exact_contributions_are_not_unfaithful(model, perturbation) -> None:
    image = picture()
    cases = [case_of(model, image, grid) for grid in (contributions(model, image), noise())]
    own, other = value(model, "infidelity", *cases, perturbation=perturbation)
    assert own == pytest.approx(0, abs=1e-10)
    assert other > 1e-3


@pytest.mark.parametrize("perturbation", ["square", "noise"])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("fill", ["mean", "black", "image_mean"])
def test_infidelity_is_the_papers_formula(model, perturbation, normalize, fill) -> None:
    image, grid = picture() + 0.2, noise().astype(np.float32)
    options = {
        "perturbation": perturbation, "normalize": normalize, "fill": fill, "samples": 6,
    }  # fmt: skip
    case = case_of(model, image, grid, target=1)
    (verdict,) = metric("infidelity", **options).measure(Bench(model), [case])
    whole, pixels = logits(weights_of(model), image.double().numpy())[1], image.double().numpy()
    base = {"mean": np.zeros(3), "black": -np.ones(3), "image_mean": pixels.mean(axis=(1, 2))}[fill]
    said, changed = [], []
    units = Units.squares(Size(ROWS * CELL, COLS * CELL), CELL)
    for parts in metric("infidelity", **options).draws("sample", units):
        moved, total = pixels.copy(), 0.0
        for row in range(ROWS):
            for col in range(COLS):
                part = parts[row * COLS + col]
                total += part * float(grid[row, col])
                for channel in range(3):
                    for down in range(row * CELL, row * CELL + CELL):
                        for side in range(col * CELL, col * CELL + CELL):
                            step = part * (pixels[channel, down, side] - base[channel])
                            moved[channel, down, side] -= step
        said.append(total)
        changed.append(whole - logits(weights_of(model), moved)[1])
    pairs = list(zip(said, changed, strict=True))
    scale = sum(a * b for a, b in pairs) / sum(a * a for a, _ in pairs) if normalize else 1.0
    expected = sum((scale * a - b) ** 2 for a, b in pairs) / 6
    assert verdict.value == pytest.approx(expected, rel=1e-4)
    assert verdict.chance == pytest.approx(sum(b * b for _, b in pairs) / 6, rel=1e-4)


def test_squares_lie_inside_and_differ() -> None:
    units = Units.squares(Size(16, 24), 4)
    drawn = list(metric("infidelity", samples=40).draws("a", units))
    for each in drawn:
        rows, cols = np.nonzero(each.reshape(ROWS, COLS))
        assert np.ptp(rows) == np.ptp(cols)
        assert each.sum() == (np.ptp(rows) + 1) ** 2 <= 4
    assert len({each.tobytes() for each in drawn}) > 10
    again = metric("infidelity", samples=40).draws("a", units)
    assert all((a == b).all() for a, b in zip(drawn, again, strict=True))
    other = metric("infidelity", samples=40, seed=1).draws("a", units)
    assert any((a != b).any() for a, b in zip(drawn, other, strict=True))


def test_normalised_infidelity_does_not_know_units_but_the_plain_one_does(model) -> None:
    image = picture()
    grids = contributions(model, image) + 0.1 * noise()
    cases = [case_of(model, image, grid) for grid in (grids, 7 * grids)]
    one, other = value(model, "infidelity", *cases, normalize=True)
    assert one == pytest.approx(other, rel=1e-4)
    one, other = value(model, "infidelity", *cases)
    assert other > 10 * one


@pytest.mark.parametrize("name", ["infidelity", "completeness"])
def test_a_batch_is_many_singles_and_costs_what_it_says(model, name) -> None:
    tensors = [picture(seed) for seed in range(3)]
    cases = judged(model, "input_x_gradient", tensors)
    bench = Bench(model, batch_size=7)
    together = metric(name).measure(bench, cases)
    assert bench.passes == 3 * metric(name).cost().forward
    alone = [metric(name).measure(Bench(model), [case])[0] for case in cases]
    for one, other in zip(together, alone, strict=True):
        assert one.value == pytest.approx(other.value, abs=1e-6)


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("name", ["infidelity", "completeness"])
def test_methods_that_are_exact_for_linear_models_have_no_error(model, method, name) -> None:
    cases = judged(model, method, [picture()])
    assert metric(name).refusal(model, Trial(method, method), cases[0].sample.size) is None
    (verdict,) = metric(name).measure(Bench(model), cases)
    assert verdict.value == pytest.approx(0, abs=1e-5)
    assert verdict.chance > 1e-3


def test_completeness_is_counted_from_the_methods_own_baseline(model) -> None:
    image = picture()
    (case,) = judged(model, "integrated_gradients:baseline=black,steps=5", [image])
    (verdict,) = metric("completeness").measure(Bench(model), [case])
    assert verdict.value == pytest.approx(0, abs=1e-5)
    label = int(case.output.argmax())
    whole, black = (
        logits(weights_of(model), pixels)[label]
        for pixels in (image.double().numpy(), -np.ones(image.shape))
    )
    assert verdict.chance == pytest.approx(abs(whole - black), rel=1e-4)


def test_completeness_of_a_wrong_map_is_what_is_missing(model) -> None:
    image = picture()
    shares = contributions(model, image)
    trial = Trial("input_x_gradient", "input_x_gradient")
    cases = [case_of(model, image, k * shares, trial=trial) for k in (0.0, 1.0, 3.0)]
    found = value(model, "completeness", *cases)
    assert found == pytest.approx([abs(shares.sum()) * k for k in (1, 0, 2)], abs=1e-5)


def test_methods_say_themselves_whether_they_share_out_the_score() -> None:
    found = {name for name in list_methods() if get_method(name)().additive}
    assert found == ADDITIVE
    assert get_method("libragrad")(readout="pixels").additive
    assert not get_method("cp_lrp")(readout="layers").additive
    assert not get_method("occlusion")(window=8, stride=4).additive
    assert get_method("cp_lrp")(readout="tokens").origin is None
    assert get_method("gradient_shap")(baseline="black").origin == "black"


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("gradcam", {}, "does not share out the score"),
        ("rollout", {}, "does not share out the score"),
        ("saliency", {}, "does not share out the score"),
        ("integrated_gradients", {"baseline": "black"}, "is not fill=mean"),
        ("integrated_gradients", {"baseline": "blur"}, "is not fill=mean"),
    ],
)
def test_other_maps_are_refused_by_name(model, method, options, told) -> None:
    trial, size = Trial(method, method, options), Size(16, 24)
    assert told in str(metric("infidelity").refusal(model, trial, size))
    assert metric("infidelity", normalize=True).refusal(model, trial, size) is None
    if "share" in told:
        assert told in str(metric("completeness").refusal(model, trial, size))


def test_maps_between_pixels_and_scores_that_are_no_numbers_are_excluded_by_name(model) -> None:
    odd = case_of(model, picture(), np.random.default_rng(0).random((3, 5)))
    lost = case_of(model, picture(), noise(), target=lambda outputs: outputs[:, 0] / 0 * 0)
    verdicts = metric("infidelity").measure(Bench(model), [odd, lost])
    assert verdicts == [
        Excluded("the map's cells are no whole pixels of the input"),
        Excluded("the score is not finite"),
    ]
    assert metric("completeness").measure(Bench(model), [_as(lost)]) == [
        Excluded("the score is not finite")
    ]


def _as(case):
    from dataclasses import replace

    return replace(case, trial=Trial("input_x_gradient", "input_x_gradient"))
