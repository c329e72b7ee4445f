"""Agreement with captum and quantus, where their definitions are the papers'."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.evaluation.removing import (
    CELL,
    additive,
    case_of,
    contributions,
    metric,
    picture,
    value,
)
from visattn.evaluation.bench import Bench
from visattn.evaluation.imputation import imputed
from visattn.evaluation.units import Units
from visattn.images import Size

HEIGHT, WIDTH = 16, 24


@pytest.fixture(scope="module")
def model():
    return additive()


def pixels(seed: int = 2) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((HEIGHT, WIDTH)).astype(np.float32)


def quantus_of(kind: str, model, image: torch.Tensor, grid: np.ndarray, **options):
    """Return what a metric of quantus says, without its scaling by the batch's largest value."""
    quantus = pytest.importorskip("quantus")
    made = getattr(quantus, kind)(
        normalise=False, abs=False, disable_warnings=True, display_progressbar=False, **options
    )
    return made(
        model=model.module.eval(),
        x_batch=image[None].numpy(),
        y_batch=np.array([0]),
        a_batch=grid[None, None].astype(np.float32),
        channel_first=True,
        softmax=False,
    )


@pytest.mark.parametrize("normalize", [False, True])
def test_captums_infidelity(model, normalize) -> None:
    """With captum's perturbation handed our draws, and contributions per pixel."""
    from captum.metrics import infidelity

    image, grid = picture(), pixels()
    own = metric("infidelity", samples=12, normalize=normalize, perturbation="noise")
    (found,) = own.measure(Bench(model), [case_of(model, image, grid, name="a")])
    draws = iter(own.draws("a", Units.squares(Size(HEIGHT, WIDTH), 1)))

    def perturbed(inputs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # One draw for each input; captum weighs contributions by the part that is removed.
        parts = torch.from_numpy(
            np.stack([next(draws).reshape(HEIGHT, WIDTH) for _ in inputs])
        ).float()
        parts = parts[:, None].expand_as(inputs)
        return parts, inputs - parts * inputs

    shared = torch.from_numpy(grid)[None, None].expand(1, 3, -1, -1) / 3
    expected = infidelity(
        lambda batch: model.run(batch)[:, 0], perturbed, image[None], shared,
        n_perturb_samples=12, normalize=normalize,
    )  # fmt: skip
    assert found.value == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize(("name", "order"), [("aopc", "morf"), ("aopc_lerf", "lerf")])
def test_quantus_region_perturbation(model, name, order) -> None:
    """Its curve holds the falls at k = 1..K; the paper's mean is over k = 0..K, with a 0 first.

    An input that its patches do not fill is padded on all sides, which shifts the patches; ours are
    cut at the right and at the bottom.
    """
    image = picture()
    grid = np.kron(contributions(model, image), np.ones((CELL, CELL)))
    (falls,) = quantus_of(
        "RegionPerturbation", model, image, grid, patch_size=CELL, order=order,
        regions_evaluation=24, perturb_baseline=0.0,
    )  # fmt: skip
    case = case_of(model, image, grid)
    (found,) = value(model, name, case, unit=CELL, steps=24)
    assert found == pytest.approx(sum(falls) / 25, rel=1e-4)


def test_quantus_pixel_flipping(model) -> None:
    """Its curve leaves out the whole input, and its area is not divided by the number of steps.

    It counts every channel of a pixel as a feature: 48 of them are 16 pixels.
    """
    image, grid = picture(), pixels()
    (scores,) = quantus_of(
        "PixelFlipping", model, image, grid, features_in_step=48, perturb_baseline=0.0
    )
    case = case_of(model, image, grid)
    (found,) = value(model, "deletion", case, unit=1, steps=24, score="logit")
    curve = np.array([float(case.output[0, 0]), *scores])
    assert found == pytest.approx(np.trapezoid(curve) / 24, rel=1e-4)


def test_quantus_noisy_linear_imputation() -> None:
    quantus = pytest.importorskip("quantus")
    random = np.random.default_rng(0)
    image, missing = random.random((3, 12, 9)), random.random((12, 9)) < 0.7
    expected = quantus.functions.perturb_func.noisy_linear_imputation(
        image, np.flatnonzero(missing), noise=0.0
    )
    np.testing.assert_allclose(imputed(image, missing), expected, atol=1e-10)


def test_quantus_completeness(model) -> None:
    """It answers whether the sum is exact to the last digit; we answer by how much it is not."""
    image = picture()
    exact = contributions(model, image)
    found = value(
        model, "completeness",
        *(case_of(model, image, grid, trial=_trial()) for grid in (exact, 2 * exact)),
    )  # fmt: skip
    (told,) = quantus_of(
        "Completeness", model, image, 2 * np.kron(exact, np.ones((CELL, CELL))) / CELL**2,
        perturb_baseline=0.0,
    )  # fmt: skip
    assert found[0] < 1e-5 < found[1]
    assert not told


def _trial():
    from visattn.evaluation.trial import Trial

    return Trial("input_x_gradient", "input_x_gradient")
