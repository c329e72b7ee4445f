"""The reference models: shipped, small, and what they rely on is what was planted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import visattn
from visattn.errors import ModelError, WeightsError
from visattn.evaluation.objects import names_of
from visattn.evaluation.planted import PlantedEvidence
from visattn.images import load_image
from visattn.models.reference import LABELS, REFERENCE, SIDE, weights_file

SCENES = 160
each = pytest.mark.parametrize("name", REFERENCE)


@pytest.fixture(scope="module", params=REFERENCE)
def model(request: pytest.FixtureRequest) -> visattn.Model:
    return visattn.load_model(f"reference:{request.param}")


def accuracy(model: visattn.Model, pictures: list[np.ndarray], labels: list[int]) -> float:
    batch = model.stack([model.prepare(load_image(picture)) for picture in pictures])
    found = model.run(batch).argmax(dim=1)
    return float((found == torch.tensor(labels)).float().mean())


def test_accuracy_on_held_out_scenes(model: visattn.Model) -> None:
    scenes = list(PlantedEvidence().scenes(SCENES, start=100_000))
    labels = [scene.label for scene in scenes]
    assert accuracy(model, [scene.image for scene in scenes], labels) >= 0.94


def test_the_class_is_gone_with_the_evidence_and_stays_without_distractors(
    model: visattn.Model,
) -> None:
    scenes = list(PlantedEvidence().scenes(SCENES, start=200_000))
    labels = [scene.label for scene in scenes]
    without = accuracy(model, [scene.without_evidence() for scene in scenes], labels)
    alone = accuracy(model, [scene.without_distractors() for scene in scenes], labels)
    assert without < 1 / 8 + 4 * np.sqrt(1 / 8 * 7 / 8 / SCENES)
    assert alone >= 0.94


def test_a_picture_of_the_input_size_is_seen_as_it_is(model: visattn.Model) -> None:
    image = PlantedEvidence().scene(0).image
    seen = model.prepare(load_image(image)).tensor
    expected = torch.from_numpy(image).permute(2, 0, 1) / 127.5 - 1
    assert torch.allclose(seen, expected, atol=1e-6)


def test_labels_are_the_planted_shapes(model: visattn.Model) -> None:
    assert model.labels == LABELS == names_of("shape")
    assert model.input_size == (SIDE, SIDE)


@each
def test_weights_are_small(name: str) -> None:
    assert weights_file(name).stat().st_size <= 4 * 2**20


@each
def test_random_and_own_weights(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    random = visattn.load_model(f"reference:{name}", weights=None)
    shipped = visattn.load_model(f"reference:{name}", weights=weights_file(name))
    assert random.weights_sha256 != shipped.weights_sha256
    assert shipped.weights_sha256 == visattn.load_model(f"reference:{name}").weights_sha256
    checkpoint = tmp_path / "checkpoint.pth"
    torch.save(shipped.module.state_dict(), checkpoint)
    again = visattn.load_model(f"reference:{name}", weights=checkpoint)
    assert again.weights_sha256 == shipped.weights_sha256
    other = next(known for known in REFERENCE if known != name)
    with pytest.raises(WeightsError, match="does not hold weights of this model"):
        visattn.load_model(f"reference:{name}", weights=weights_file(other))
    with pytest.raises(WeightsError, match="absent"):
        visattn.load_model(f"reference:{name}", weights=tmp_path / "absent.safetensors")


@each
def test_other_sizes_and_labels(name: str) -> None:
    model = visattn.load_model(f"reference:{name}", image_size=(64, 128))
    scene = PlantedEvidence(size=64).scene(0).image
    prepared = model.prepare(load_image(np.concatenate([scene, scene], axis=1)))
    assert prepared.tensor.shape == (3, 64, 128)
    assert model.run(model.stack([prepared])).shape == (1, 8)
    named = visattn.load_model(f"reference:{name}", weights=None, labels=["a", "b"])
    assert named.run(torch.zeros(1, 3, SIDE, SIDE)).shape == (1, 2)
    with pytest.raises(WeightsError, match="does not hold weights of this model"):
        visattn.load_model(f"reference:{name}", labels=["a", "b"])


def test_errors_name_the_value_and_the_repair() -> None:
    with pytest.raises(ModelError, match=r"no reference:vti\. Did you mean 'vit'"):
        visattn.load_model("reference:vti")
    with pytest.raises(ModelError, match="cannot take 100 x 96: both sides must be multiples of 8"):
        visattn.load_model("reference:vit", image_size=(100, 96))


def test_reference_models_are_listed() -> None:
    assert set(visattn.list_models("reference:*")) == {f"reference:{name}" for name in REFERENCE}


def test_the_gated_branch_of_the_last_block_does_not_know_where_the_evidence_is() -> None:
    """Why `gate_weighted` beats no control on this network: a fact, and no fault of its formula."""
    model = visattn.load_model("reference:cbam")
    on, off = [], []
    for scene in PlantedEvidence().scenes(12):
        image, label = scene.image, scene.label
        (gated,) = visattn.explain(model, image, method="gate_weighted", target=label)
        (same,) = visattn.explain(
            model, image, method="hirescam", target=label, layer="layer4.0.se"
        )
        assert np.array_equal(gated.grid, same.grid)
        covered = scene.evidence().reshape(12, 8, 12, 8).mean(axis=(1, 3)) > 0.5
        if covered.any():
            on.append(gated.grid[covered].mean())
            off.append(gated.grid[~covered].mean())
    assert len(on) >= 8
    assert np.mean(on) < 1.1 * np.mean(off)
