"""Metrics that remove units: against loops, on models with a known answer, and what they keep."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

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
    softmax,
    value,
    weights_of,
)
from visattn.errors import ConfigError
from visattn.evaluation.bench import Bench
from visattn.evaluation.measured import Measured
from visattn.evaluation.metrics import METRICS, read_metric
from visattn.evaluation.sample import Excluded

COUNT = ROWS * COLS
STEPS = 7
TENTHS = [part / 10 for part in range(1, 10)]
BINS = [0.01, 0.05, 0.1, 0.2, 0.5]
CURVES = ("deletion", "insertion", "aopc", "aopc_lerf", "abpc", "srg")
ROADS = ("road", "road_morf", "road_lerf")
CHOICES = ("positive_perturbation", "negative_perturbation")
EVERY = (*CURVES, *ROADS, *CHOICES, "saco", "comprehensiveness", "sufficiency")
FLIPPED = ("abpc", "srg", "road")


@pytest.fixture(scope="module")
def model():
    return additive()


def options_of(name: str) -> dict[str, object]:
    """Return options under which the oracle's plain fill and units hold."""
    steps = {"steps": STEPS} if name in CURVES else {}
    return {"fill": "mean", "unit": CELL, **steps}


class Loops:
    """The papers' formulas by loops in float64; what is removed becomes zero."""

    def __init__(self, weights, image, grid, label):
        self.weights, self.image, self.label = weights, image, label
        cells = [(row, col) for row in range(ROWS) for col in range(COLS)]
        self.salience = {cell: float(grid[cell]) for cell in cells}
        self.most = sorted(cells, key=lambda cell: -self.salience[cell])
        self.least = self.most[::-1]

    def seen(self, removed):
        image = self.image.copy()
        for row, col in removed:
            for channel in range(3):
                for down in range(CELL):
                    for right in range(CELL):
                        image[channel, row * CELL + down, col * CELL + right] = 0.0
        return logits(self.weights, image)

    def logit(self, removed):
        return self.seen(removed)[self.label]

    def probability(self, removed):
        return softmax(self.seen(removed))[self.label]

    def right(self, removed):
        values = self.seen(removed)
        return float(values.index(max(values)) == self.label)

    def counts(self):
        return [round(COUNT * step / STEPS) for step in range(STEPS + 1)]

    @staticmethod
    def trapezoid(values):
        return sum((a + b) / 2 for a, b in pairwise(values)) / (len(values) - 1)

    def deletion(self):
        return self.trapezoid([self.probability(self.most[:count]) for count in self.counts()])

    def insertion(self):
        return self.trapezoid([self.probability(self.most[count:]) for count in self.counts()])

    def fall(self, order):
        return sum(self.logit([]) - self.logit(order[:count]) for count in self.counts()) / (
            STEPS + 1
        )

    def aopc(self):
        return self.fall(self.most)

    def aopc_lerf(self):
        return self.fall(self.least)

    def abpc(self):
        return self.fall(self.most) - self.fall(self.least)

    def srg(self):
        least, most = (
            self.trapezoid([self.logit(order[:count]) for count in self.counts()])
            for order in (self.least, self.most)
        )
        return least - most

    def change(self, order):
        whole = self.probability([])
        return sum(self.probability(order[: round(COUNT * p)]) - whole for p in TENTHS) / 9

    def road_morf(self):
        return self.change(self.most)

    def road_lerf(self):
        return self.change(self.least)

    def road(self):
        return (self.change(self.least) - self.change(self.most)) / 2

    def positive_perturbation(self):
        return self.trapezoid([self.right(self.most[: round(COUNT * p)]) for p in TENTHS])

    def negative_perturbation(self):
        return self.trapezoid([self.right(self.least[: round(COUNT * p)]) for p in TENTHS])

    def comprehensiveness(self):
        whole = self.probability([])
        return sum(whole - self.probability(self.most[: round(COUNT * q)]) for q in BINS) / 5

    def sufficiency(self):
        whole = self.probability([])
        return sum(whole - self.probability(self.most[round(COUNT * q) :]) for q in BINS) / 5

    def saco(self):
        edges = [round(COUNT * place / 10) for place in range(11)]
        groups = [self.most[a:b] for a, b in pairwise(edges)]
        salience = [sum(self.salience[cell] for cell in group) / len(group) for group in groups]
        loss = [self.probability([]) - self.probability(group) for group in groups]
        above = below = 0.0
        for i in range(10):
            for j in range(i + 1, 10):
                sign = 1 if loss[i] >= loss[j] else -1
                above += sign * (salience[i] - salience[j])
                below += abs(salience[i] - salience[j])
        return above / below


def noise(seed: int = 5) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((ROWS, COLS))


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("label", [0, 2])
def test_it_is_the_papers_formula(model, name, label) -> None:
    image, grid = picture(), noise().astype(np.float32)
    case = case_of(model, image, grid, target=label, label=label)
    (found,) = value(model, name, case, **options_of(name))
    loops = Loops(weights_of(model), image.double().numpy(), grid, label)
    assert found == pytest.approx(getattr(loops, name)(), abs=2e-6)


@pytest.mark.parametrize("name", EVERY)
def test_ties_of_equal_cells_change_nothing(name) -> None:
    model = additive()
    model.module.weights[..., COLS // 2 :] = model.module.weights[..., : COLS // 2]
    image, half = picture(pairs=True), noise()[:, : COLS // 2].astype(np.float32)
    grid = np.concatenate([half, half], axis=1)
    # Removed in pairs of equal cells, or one of two: which one makes no difference.
    case = case_of(model, image, grid)
    (found,) = value(model, name, case, **options_of(name))
    loops = Loops(weights_of(model), image.double().numpy(), grid, 0)
    assert found == pytest.approx(getattr(loops, name)(), abs=2e-6)


@pytest.mark.parametrize("fill", ["black", "image_mean", "blur"])
def test_another_fill_is_another_curve(model, fill) -> None:
    case = case_of(model, picture() + 0.3, noise())
    plain, other = (value(model, "aopc", case, fill=f, unit=CELL)[0] for f in ("mean", fill))
    assert plain != pytest.approx(other, abs=1e-3)


def test_of_an_additive_model_every_curve_is_a_sum_of_sorted_weights(model) -> None:
    image = picture()
    shares = contributions(model, image)
    case = case_of(model, image, shares)
    whole, sorted_ = shares.sum(), np.sort(shares.ravel())[::-1]
    most = whole - np.concatenate([[0], np.cumsum(sorted_)])
    least = whole - np.concatenate([[0], np.cumsum(sorted_[::-1])])
    found = {
        name: value(model, name, case, fill="mean", unit=CELL, steps=COUNT, score="logit")[0]
        for name in CURVES
    }
    assert found["deletion"] == pytest.approx(np.trapezoid(most) / COUNT, abs=1e-5)
    # Only the k most relevant are there: the total minus what is left without them.
    assert found["insertion"] == pytest.approx(np.trapezoid(whole - most) / COUNT, abs=1e-5)
    assert found["aopc"] == pytest.approx((whole - most).mean(), abs=1e-5)
    assert found["aopc_lerf"] == pytest.approx((whole - least).mean(), abs=1e-5)
    assert found["abpc"] == pytest.approx((least - most).mean(), abs=1e-5)
    assert found["srg"] == pytest.approx(np.trapezoid(least - most) / COUNT, abs=1e-5)


def test_exact_contributions_beat_every_other_map(model) -> None:
    image = picture()
    shares = contributions(model, image)
    exact = case_of(model, image, shares)
    rivals = [case_of(model, image, noise(seed)) for seed in range(3)]
    rivals.append(case_of(model, image, -shares))
    for name in CURVES:
        sign = 1 if METRICS.get(name).better == "higher" else -1
        own, *others = value(
            model, name, exact, *rivals, fill="mean", unit=CELL, score="logit", steps=8
        )
        assert all(sign * own > sign * other for other in others), name


@pytest.mark.parametrize("name", FLIPPED)
def test_a_map_and_its_negative_have_opposite_values(model, name) -> None:
    image, grid = picture(), noise()
    one, other = value(
        model, name, case_of(model, image, grid), case_of(model, image, -grid), unit=CELL
    )
    assert one == pytest.approx(-other, abs=1e-6)
    assert abs(one) > 1e-4


def test_saco_is_one_where_salience_and_loss_agree_and_minus_one_where_they_do_not(model) -> None:
    image = picture()
    shares = contributions(model, image)
    options = {"fill": "mean", "unit": CELL, "score": "logit", "groups": 8}
    agree, scaled, disagree = (
        case_of(model, image, grid) for grid in (shares, 3 * shares + 5, -shares)
    )
    found = value(model, "saco", agree, scaled, disagree, **options)
    assert found == pytest.approx([1, 1, -1], abs=1e-6)


def test_saco_of_three_groups_by_hand(model) -> None:
    salience, loss = (np.repeat(each, 8).reshape(ROWS, COLS) for each in ([4, 1, 0], [1, 3, 2]))
    colours = loss / 8 / weights_of(model)[0]
    image = torch.from_numpy(np.kron(colours, np.ones((CELL, CELL)))).float().repeat(3, 1, 1)
    options = {"fill": "mean", "score": "logit", "unit": CELL, "groups": 3}
    (found,) = value(model, "saco", case_of(model, image, salience), **options)
    # d = 1, 3, 2: pairs (4, 1) and (4, 0) are wrong, (1, 0) is right.
    assert found == pytest.approx((-3 - 4 + 1) / (3 + 4 + 1))


@pytest.mark.parametrize("name", [name for name in EVERY if name != "saco"])
def test_only_ranks_count(model, name) -> None:
    image, grid = picture(), np.abs(noise())
    plain, curved = case_of(model, image, grid), case_of(model, image, grid**3 * 10)
    one, other = value(model, name, plain, curved, **options_of(name))
    assert METRICS.get(name).rank_only
    assert one == pytest.approx(other, abs=1e-9)


def test_saco_is_no_matter_of_ranks(model) -> None:
    grid = np.abs(noise())
    cases = [case_of(model, picture(), each) for each in (grid, grid**3)]
    one, other = value(model, "saco", *cases, unit=CELL)
    assert abs(one - other) > 1e-3
    assert not METRICS.get("saco").rank_only


@pytest.mark.parametrize("name", EVERY)
def test_a_batch_is_many_singles(model, name) -> None:
    def cases():
        return [
            case_of(model, picture(seed), noise(seed), name=f"sample {seed}") for seed in range(3)
        ]

    together = value(model, name, *cases(), **options_of(name))
    alone = [value(model, name, case, **options_of(name))[0] for case in cases()]
    assert together == pytest.approx(alone, abs=1e-6)
    assert len(set(together)) > 1 or name in CHOICES


@pytest.mark.parametrize("name", EVERY)
def test_every_variant_costs_one_pass_and_is_run_once_for_all_metrics(model, name) -> None:
    own, case = metric(name, **options_of(name)), case_of(model, picture(), noise())
    bench = Bench(model)
    first = own.measure(bench, [case])
    assert bench.passes == own.cost().forward > 0
    assert own.measure(bench, [case]) == first
    assert bench.passes == own.cost().forward


def test_metrics_of_one_curve_share_its_passes(model) -> None:
    bench, case = Bench(model), case_of(model, picture(), noise())
    for name in ("srg", "abpc", "aopc", "aopc_lerf", "deletion"):
        metric(name, unit=CELL, steps=STEPS).measure(bench, [case])
    assert bench.passes == metric("srg", steps=STEPS).cost().forward == 2 * STEPS - 1
    metric("aopc", unit=CELL, steps=STEPS, seed=1).measure(bench, [case])
    assert bench.passes == 2 * STEPS - 1 + STEPS  # another seed is another order


def test_another_seed_breaks_ties_in_another_order(model) -> None:
    grid = np.zeros_like(noise())
    grid[0, 0] = 1
    found = {
        metric("aopc", unit=CELL, steps=STEPS, seed=seed)
        .measure(Bench(model), [case_of(model, picture(), grid)])[0]
        .value
        for seed in range(4)
    }
    assert len(found) == 4


def test_what_is_shared_is_right(model) -> None:
    case = case_of(model, picture(), noise())
    for name in ("abpc", "srg", "deletion"):
        fresh = case_of(model, picture(), noise())
        options = {"unit": CELL, "steps": STEPS}
        assert value(model, name, case, **options) == value(model, name, fresh, **options)


def test_constant_maps_and_scores_that_are_no_numbers_are_excluded_by_name(model) -> None:
    even = case_of(model, picture(), np.ones((ROWS, COLS)))
    broken = case_of(model, picture(), noise(), target=lambda outputs: outputs[:, 0] / 0 * 0)
    cases = [even, broken, case_of(model, picture(), noise())]
    one, two, three = metric("deletion", unit=CELL).measure(Bench(model), cases)
    assert one == Excluded("the map is the same on all units")
    assert two == Excluded("the score is not finite")
    assert isinstance(three, Measured)


def test_units_that_are_cut_at_the_border_go_by_their_mean(model) -> None:
    image, grid = picture(), np.random.default_rng(3).standard_normal((16, 24)).astype(np.float32)
    boxes = [
        (slice(top, min(top + 5, 16)), slice(left, min(left + 5, 24)))
        for top in range(0, 16, 5)
        for left in range(0, 24, 5)
    ]
    order = sorted(boxes, key=lambda box: -grid[box].astype(float).mean())
    pixels, scores = image.double().numpy(), []
    for count in (0, 5, 10, 15, 20):
        left = pixels.copy()
        for rows, cols in order[:count]:
            left[:, rows, cols] = 0
        scores.append(logits(weights_of(model), left)[0])
    (found,) = value(model, "aopc", case_of(model, image, grid), unit=5, steps=4)
    assert found == pytest.approx(scores[0] - sum(scores) / 5, abs=1e-5)


def test_a_map_that_leaves_out_part_of_the_input_is_excluded_by_name(model) -> None:
    case = case_of(model, picture(), noise())
    half = case.found.geometry.with_grid(case.found.geometry.grid, (2.0, 4.0))
    found = replace(case, found=replace(case.found, geometry=half))
    (verdict,) = metric("srg", unit=CELL).measure(Bench(model), [found])
    assert verdict == Excluded("the map does not cover the input")


def test_more_groups_than_units_are_excluded_by_name(model) -> None:
    (found,) = metric("saco", unit=CELL, groups=COUNT + 1).measure(
        Bench(model), [case_of(model, picture(), noise())]
    )
    assert found == Excluded(f"fewer than {COUNT + 1} units")


def test_labels_are_needed_unless_the_prediction_counts(model) -> None:
    case = case_of(model, picture(), noise(), label=None)
    positive = metric("positive_perturbation", fill="mean", unit=CELL)
    assert positive.lacks(case.sample) == "no label"
    free = metric("positive_perturbation", fill="mean", unit=CELL, against="prediction")
    assert free.lacks(case.sample) is None
    image, grid = picture(), noise().astype(np.float32)
    predicted = int(case.output.argmax())
    loops = Loops(weights_of(model), image.double().numpy(), grid, predicted)
    (found,) = free.measure(Bench(model), [case_of(model, image, grid, label=None)])
    assert found.value == pytest.approx(loops.positive_perturbation())


def test_the_lookup_of_one_black_pixel_is_found() -> None:
    from visattn.models.reference import transform

    class Lookup(torch.nn.Module):
        num_classes = 2

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            black = (x[:, :, 3, 5] == -1).all(dim=1).float()
            return torch.stack([1 - black, black], dim=1)

    import visattn
    from visattn.images import Size

    size = Size(8, 10)
    model = visattn.load_model(Lookup(), transform=transform(size), image_size=tuple(size))
    image = torch.zeros(3, *size)
    grid = np.zeros(size)
    grid[3, 5] = 1
    found, lost = (
        value(model, name, case_of(model, image, grid, target=0), unit=1)[0]
        for name in ("positive_perturbation", "negative_perturbation")
    )
    assert (found, lost) == (0.0, 1.0)
    wrong, kept = (
        value(model, name, case_of(model, image, -grid, target=0), unit=1)[0]
        for name in ("positive_perturbation", "negative_perturbation")
    )
    assert (wrong, kept) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("deletion:fill=blak", "Did you mean 'black'"),
        ("deletion:score=softmax", "logit, probability"),
        ("deletion:steps=0", "steps=0"),
        ("deletion:steps=2.5", "not an integer"),
        ("deletion:unit=0", "no number of pixels"),
        ("srg:fill=tokens,unit=8", "leave unit out"),
        ("road:fractions=(0.5,1.5)", "1.5 is not above 0"),
        ("road:fractions=()", "empty"),
        ("saco:groups=1", "at least 2"),
        ("positive_perturbation:against=truth", "label, prediction"),
        ("positive_perturbation:score=logit", "no score"),
        ("positive_perturbation:fractions=(0.5,0.1)", "rising"),
        ("infidelity:fill=linear", "no fixed baseline"),
        ("infidelity:perturbation=cube", "square, noise"),
        ("infidelity:sigma=0.0", "sigma=0.0 is not above 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(spec, told) -> None:
    with pytest.raises(ConfigError, match=told.replace("(", r"\(")):
        read_metric(spec)
