"""Models of torchvision: small ones by name, the sized ones shrunk."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import safetensors.torch
import torch
from torchvision import models
from torchvision.models import MobileNet_V3_Small_Weights, VisionTransformer, ViT_B_16_Weights
from torchvision.models.segmentation import LRASPP_MobileNet_V3_Large_Weights

from visattn.errors import ModelError, WeightsError
from visattn.images import Image, Size
from visattn.models import Model, load_model
from visattn.models import torchvision as source

NAME = "mobilenet_v3_small"


def random(name: str = NAME, **changes: Any) -> Model:
    return load_model(f"torchvision:{name}", **{"weights": None, "device": "cpu", **changes})


def noise(height: int = 131, width: int = 90) -> Image:
    return Image(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))


def test_a_model_brings_preprocessing_and_labels_of_its_weights() -> None:
    torch.manual_seed(2)
    model = random()
    torch.manual_seed(2)
    own = models.mobilenet_v3_small().eval()
    image = noise()
    prepared = model.prepare(image)
    expected = MobileNet_V3_Small_Weights.DEFAULT.transforms()(image.pillow())
    assert torch.equal(prepared.tensor, expected)
    assert torch.equal(model.run(prepared.tensor[None]), own(prepared.tensor[None]))
    assert model.labels is not None
    assert model.labels[285] == "Egyptian cat"
    assert model.input_size == Size(224, 224)
    assert model.source == "random initialisation"


@pytest.mark.parametrize("size", [(96, 160), 64])
def test_another_size_keeps_the_proportion_of_resize_and_crop(size: Any) -> None:
    model = random(image_size=size)
    expected = Size(64, 64) if size == 64 else Size(96, 160)
    assert model.input_size == expected
    assert model.prepare(noise()).tensor.shape[-2:] == expected
    assert model.prepare(noise(90, 131)).geometry.visible_fraction < 1


def test_labels_set_the_number_of_classes() -> None:
    model = random(labels=["a", "b", "c"], image_size=64)
    assert model.run(torch.rand(1, 3, 64, 64)).shape == (1, 3)
    assert model.labels == ("a", "b", "c")


def test_pretrained_weights_are_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(4)
    state = models.mobilenet_v3_small().state_dict()
    monkeypatch.setattr(MobileNet_V3_Small_Weights, "get_state_dict", lambda *_, **__: state)
    model = load_model(f"torchvision:{NAME}/IMAGENET1K_V1", device="cpu")
    assert all(torch.equal(value, state[key]) for key, value in model.module.state_dict().items())
    assert "MobileNet_V3_Small_Weights.IMAGENET1K_V1" in model.source
    assert model.name == f"torchvision:{NAME}/IMAGENET1K_V1"


@pytest.mark.parametrize("name", ["vit_b_16", NAME])
def test_weights_that_cannot_be_downloaded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise URLError("no route")

    for weights in (MobileNet_V3_Small_Weights, ViT_B_16_Weights):
        monkeypatch.setattr(weights, "get_state_dict", unreachable)
    size = 64 if name == "vit_b_16" else None
    with pytest.raises(WeightsError, match=r"no route.*weights=None.*packaged:dinov2_small"):
        load_model(f"torchvision:{name}", device="cpu", image_size=size)


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("mobilenet_v3_smal", "Did you mean 'mobilenet_v3_small'?"),
        (f"{NAME}/IMAGENET1K_V9", "has no weights 'IMAGENET1K_V9'. Did you mean 'IMAGENET1K_V1'?"),
        ("fasterrcnn_resnet50_fpn", "no classifier or segmenter 'fasterrcnn_resnet50_fpn'"),
        ("vit_b_16", "takes square inputs only, not 32 x 48"),
    ],
)
def test_what_does_not_exist_is_refused(spec: str, told: str) -> None:
    with pytest.raises(ModelError) as caught:
        random(spec, image_size=(32, 48))
    assert told in str(caught.value)


def test_a_checkpoint_brings_its_number_of_classes(tmp_path: Path) -> None:
    own = models.mobilenet_v3_small(num_classes=4).eval()
    path = tmp_path / "w.safetensors"
    safetensors.torch.save_file(own.state_dict(), path)
    model = random(weights=path)
    assert torch.equal(model.run(torch.ones(1, 3, 64, 64)), own(torch.ones(1, 3, 64, 64)))
    assert model.labels is None
    torch.save(
        {"state_dict": {f"module.{k}": v for k, v in own.state_dict().items()}}, tmp_path / "w.pth"
    )
    assert random(weights=tmp_path / "w.pth").weights_sha256 == model.weights_sha256
    with pytest.raises(WeightsError, match=r"w\.safetensors does not fit SqueezeNet"):
        random("squeezenet1_1", weights=path)


def shrunk(image_size: int) -> VisionTransformer:
    torch.manual_seed(0)
    return VisionTransformer(image_size, 8, 1, 2, 16, 32, num_classes=3).eval()


def test_the_positions_of_a_vision_transformer_are_resampled() -> None:
    small, large = shrunk(32), shrunk(48)
    before = {key: value.clone() for key, value in small.state_dict().items()}
    state = source._resampled(large, small.state_dict())
    large.load_state_dict(state, strict=True)
    assert large.encoder.pos_embedding.shape == (1, 1 + 36, 16)
    assert torch.equal(large.encoder.pos_embedding[:, 0], before["encoder.pos_embedding"][:, 0])
    with pytest.raises(WeightsError, match="not those of a VisionTransformer"):
        source._resampled(large, {})


def test_a_segmenter_resizes_without_cropping(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise()
    preset = LRASPP_MobileNet_V3_Large_Weights.DEFAULT.transforms(resize_size=48)
    steps, size = source.transform_of(preset, None)
    assert size is None
    assert torch.equal(steps(image.pillow()), preset(image.pillow()))
    steps, size = source.transform_of(preset, Size(32, 48))
    assert steps(image.pillow()).shape == (3, 32, 48) == (3, *size)


def test_presets_of_other_tasks_cannot_be_traced() -> None:
    preset = models.video.R3D_18_Weights.DEFAULT.transforms()
    with pytest.raises(ModelError, match="VideoClassification"):
        source.transform_of(preset, None)


def test_a_preset_may_be_given_for_a_module_in_memory() -> None:
    model = load_model(shrunk(32), transform=ViT_B_16_Weights.DEFAULT.transforms(crop_size=32))
    assert model.input_size == Size(32, 32)
    assert model.run(model.stack([model.prepare(noise())])).shape == (1, 3)
