"""Replacements by name: what the model sees where something was removed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

import visattn
from tests.evaluation.removing import RANDOM, additive, metric, picture
from visattn.errors import ConfigError
from visattn.evaluation.imputation import imputed
from visattn.evaluation.replacements import REPLACEMENTS, list_replacements
from visattn.evaluation.sample import Sample
from visattn.evaluation.units import Units


@pytest.fixture(scope="module")
def model():
    return additive()


@pytest.fixture
def mask() -> torch.Tensor:
    return torch.rand(16, 24, generator=torch.Generator().manual_seed(3)) < 0.4


def filled(model, name, mask, image=None, sample="sample", seed=0) -> torch.Tensor:
    made = Sample(sample, model.prepare_tensor(picture() if image is None else image))
    found: torch.Tensor = REPLACEMENTS.get(name)(seed).filling(model, made)(mask)
    return found


def test_every_replacement_has_a_name() -> None:
    assert list_replacements() == ["black", "blur", "image_mean", "linear", "mean", "tokens"]


@pytest.mark.parametrize("name", ["black", "blur", "image_mean", "linear", "mean"])
def test_what_is_kept_stays_as_it_is_to_the_bit(model, name, mask) -> None:
    found = filled(model, name, mask)
    assert torch.equal(found[:, ~mask], picture()[:, ~mask])
    assert found.dtype == torch.float32
    assert not torch.equal(found[:, mask], picture()[:, mask])


def test_colours(model, mask) -> None:
    image = picture()
    assert (filled(model, "mean", mask)[:, mask] == 0).all()
    assert (filled(model, "black", mask)[:, mask] == -1).all()  # mean and std are 0.5
    for channel in range(3):
        own = filled(model, "image_mean", mask)[channel, mask]
        np.testing.assert_allclose(own, float(image[channel].mean()), rtol=1e-5)


def test_blur_is_a_gaussian_of_eleven_by_eleven(model) -> None:
    image = picture().double().numpy()
    weights = [math.exp(-(step**2) / (2 * 5.0**2)) for step in range(-5, 6)]
    padded = np.pad(image, ((0, 0), (5, 5), (5, 5)), mode="reflect")
    everything = torch.ones(16, 24, dtype=torch.bool)
    found = filled(model, "blur", everything)
    for row, col in ((0, 0), (7, 11), (15, 3)):
        total = sum(
            weights[i] * weights[j] * padded[:, row + i, col + j]
            for i in range(11)
            for j in range(11)
        )
        np.testing.assert_allclose(found[:, row, col], total / sum(weights) ** 2, rtol=1e-4)


def dense(image: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Solve the paper's system pixel by pixel, in a full matrix."""
    height, width = missing.shape
    matrix, right = np.eye(height * width), np.zeros((height * width, image.shape[0]))
    for row in range(height):
        for col in range(width):
            place = row * width + col
            if not missing[row, col]:
                right[place] = image[:, row, col]
                continue
            near = {}
            for down in (-1, 0, 1):
                for side in (-1, 0, 1):
                    inside = 0 <= row + down < height and 0 <= col + side < width
                    if (down or side) and inside:
                        there = (row + down) * width + col + side
                        near[there] = 1 / 12 if down and side else 1 / 6
            for there, weight in near.items():
                matrix[place, there] -= weight / sum(near.values())
    return np.linalg.solve(matrix, right).T.reshape(image.shape)


@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_imputation_solves_the_dense_system(share) -> None:
    random = np.random.default_rng(0)
    image, missing = random.random((3, 8, 9)), random.random((8, 9)) < share
    np.testing.assert_allclose(imputed(image, missing), dense(image, missing), atol=1e-10)


def test_imputation_of_whole_patches_and_of_borders() -> None:
    random = np.random.default_rng(1)
    image, missing = random.random((1, 8, 8)), np.zeros((8, 8), bool)
    missing[:4, :4] = missing[4:, 6:] = True
    np.testing.assert_allclose(imputed(image, missing), dense(image, missing), atol=1e-10)


def test_a_ramp_is_imputed_exactly_inside() -> None:
    rows, cols = np.mgrid[:8, :10]
    image, missing = (2.0 * rows - 3 * cols + 1)[None], np.zeros((8, 10), bool)
    missing[2:6, 3:8] = True
    np.testing.assert_allclose(imputed(image, missing), image, atol=1e-10)


def test_without_any_pixel_there_is_nothing_to_impute_from() -> None:
    assert (imputed(np.ones((3, 4, 5)), np.ones((4, 5), bool)) == 0).all()
    assert (imputed(np.ones((3, 4, 5)), np.zeros((4, 5), bool)) == 1).all()


def test_noise_is_small_and_belongs_to_sample_and_seed(model, mask) -> None:
    clean = torch.from_numpy(imputed(picture().double().numpy(), mask.numpy())).float()
    noisy = filled(model, "linear", mask)
    added = (noisy - clean)[:, mask]
    assert 0.005 < float(added.std()) < 0.015
    assert torch.equal(noisy, filled(model, "linear", mask))
    assert not torch.equal(noisy, filled(model, "linear", mask, seed=1))
    assert not torch.equal(noisy, filled(model, "linear", mask, sample="other"))


def test_black_needs_to_know_what_black_is() -> None:
    bare = visattn.load_model(nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 2)))
    size = Sample("a", bare.prepare_tensor(torch.zeros(3, 8, 8))).size
    told = metric("deletion", fill="black").refusal(bare, RANDOM, size)
    assert told is not None
    assert "what black is" in told
    assert metric("deletion").refusal(bare, RANDOM, size) is None
    assert "larger than the input" in str(metric("deletion", unit=9).refusal(bare, RANDOM, size))


def test_black_of_other_channels_is_not_guessed(model) -> None:
    grey = Sample("grey", model.prepare_tensor(torch.zeros(1, 16, 24)))
    with pytest.raises(ConfigError, match="1 channels of grey is not known"):
        REPLACEMENTS.get("black")().filling(model, grey)


def test_units_spread_over_ragged_borders(model) -> None:
    units = Units.squares(Sample("a", model.prepare_tensor(picture())).size, 5)
    removed = np.zeros(units.count, bool)
    removed[-1] = True
    mask = torch.from_numpy(units.spread(removed))
    assert (filled(model, "mean", mask) == 0).any(dim=0).nonzero().tolist() == [
        [15, col] for col in range(20, 24)
    ]
