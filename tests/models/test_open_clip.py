"""Models of open_clip: tiny ones from a folder, with image and text in one space."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

import visattn
from visattn.errors import ModelError, TargetError, WeightsError
from visattn.images import Image, Size
from visattn.models import Model, load_model

open_clip = pytest.importorskip("open_clip")

TEXT = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 32, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}
TOWERS: dict[str, dict[str, Any]] = {
    "vit": {"embed_dim": 12, "vision_cfg": VIT, "text_cfg": TEXT},
    "resnet": {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 4},
        "text_cfg": TEXT,
    },
    "siglip": {
        "embed_dim": 64, "custom_text": True, "text_cfg": TEXT,
        "vision_cfg": {
            "image_size": 160, "timm_model_name": "test_vit", "timm_model_pretrained": False,
            "timm_pool": "map", "timm_proj": "none",
        },
    },
}  # fmt: skip
PREPROCESS = {
    "vit": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "interpolation": "bilinear"},
    "resnet": {"resize_mode": "longest", "fill_color": 9},
    "siglip": {"resize_mode": "squash", "mean": [0.5] * 3, "std": [0.5] * 3},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a kind, as open_clip lays it out."""
    root = tmp_path_factory.mktemp("clips")

    def written(name: str) -> Path:
        place = root / name
        if not place.exists():
            place.mkdir()
            described = {"model_cfg": TOWERS[name], "preprocess_cfg": PREPROCESS[name]}
            (place / "open_clip_config.json").write_text(json.dumps(described), encoding="utf-8")
            torch.manual_seed(0)
            made = open_clip.create_model(f"local-dir:{place}", load_weights=False)
            state = {key: value.clone() for key, value in made.state_dict().items()}
            safetensors.torch.save_file(state, place / "open_clip_model.safetensors")
        return place

    return written


def loaded(place: Path, **changes: Any) -> Model:
    return load_model(f"open_clip:{place}", device="cpu", **changes)


def noise(height: int = 70, width: int = 111) -> Image:
    return Image(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("name", TOWERS)
def test_embeddings_and_inputs_are_those_of_the_library(
    name: str, folder: Callable[[str], Path]
) -> None:
    model = loaded(folder(name))
    clip, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder(name)}")
    clip.eval()
    image = noise()
    prepared = model.prepare(image)
    assert torch.equal(prepared.tensor, preprocess(image.pillow()))
    assert model.input_size == Size(*prepared.tensor.shape[-2:])
    with torch.no_grad():
        own = clip.encode_image(prepared.tensor[None])
        tokens = open_clip.get_tokenizer(f"local-dir:{folder(name)}")(["a cat", "two dogs"])
        words = clip.encode_text(tokens)
    assert torch.equal(model.run(prepared.tensor[None]), own)
    assert torch.equal(model.text.embed(["a cat", "two dogs"]), words)
    assert set(model.module.state_dict()) == {
        key.removeprefix("visual.") for key in clip.state_dict() if key.startswith("visual.")
    }


def test_a_text_target_is_the_cosine_of_the_library(folder: Callable[[str], Path]) -> None:
    place = folder("vit")
    model = loaded(place)
    batch = model.stack([model.prepare(noise())])
    clip = open_clip.create_model(f"local-dir:{place}").eval()
    with torch.no_grad():
        words = clip.encode_text(
            open_clip.get_tokenizer(f"local-dir:{place}")(["a cat", "the cat"]), normalize=True
        )
        image = clip.encode_image(batch, normalize=True)
    mean = words.mean(0) / words.mean(0).norm()
    target = visattn.TextTarget(["a cat", "the cat"])
    (resolved,) = visattn.targets.resolve(target, model, model.run(batch))
    assert float(resolved.score(model.run(batch))) == pytest.approx(
        float(image[0] @ mean), abs=1e-6
    )
    assert resolved.target.label == "similarity to 'a cat' and 1 more"


def test_another_size_is_forced_on_the_tower(folder: Callable[[str], Path]) -> None:
    model = loaded(folder("vit"), image_size=(40, 48))
    prepared = model.prepare(noise())
    assert model.input_size == Size(40, 48)
    assert prepared.tensor.shape == (3, 40, 48)
    assert model.run(prepared.tensor[None]).shape == (1, 12)
    assert model.module.positional_embedding.shape == (1 + 5 * 6, 16)


def test_random_weights_and_checkpoint_files(folder: Callable[[str], Path], tmp_path: Path) -> None:
    place = folder("vit")
    torch.manual_seed(7)
    one = loaded(place, weights=None)
    torch.manual_seed(7)
    other = loaded(place, weights=None)
    assert one.weights_sha256 == other.weights_sha256 != loaded(place).weights_sha256
    assert one.source == "random initialisation"
    from_file = loaded(place, weights=place / "open_clip_model.safetensors")
    assert from_file.weights_sha256 == loaded(place).weights_sha256
    assert from_file.text.module is not one.text.module
    with pytest.raises(WeightsError, match=r"no checkpoint nowhere\.pt"):
        loaded(place, weights="nowhere.pt")
    wrong = tmp_path / "w.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(1)}, wrong)
    with pytest.raises(WeightsError, match="does not fit CLIP"):
        loaded(place, weights=wrong)


def test_a_prompt_that_is_too_long_is_refused(folder: Callable[[str], Path]) -> None:
    model = loaded(folder("vit"))
    with pytest.raises(TargetError, match=r"prompt 'cat .*longer than the 12 tokens"):
        visattn.TextTarget(["a cat", "cat " * 11]).embedding(model)
    assert visattn.TextTarget("cat " * 10).embedding(model).shape == (12,)


@pytest.mark.parametrize(
    ("spec", "weights", "told"),
    [
        ("ViT-B-61/openai", "pretrained", "open_clip has no model 'ViT-B-61'. Did you mean"),
        ("ViT-B-16", "pretrained", "needs the name of its weights, as in open_clip:ViT-B-16/tag"),
        ("ViT-B-16/opnai", "pretrained", "has no weights 'opnai'"),
        ("ViT-B-16", "nowhere.pt", "no checkpoint nowhere.pt"),
    ],
)
def test_what_does_not_exist_is_refused(spec: str, weights: str, told: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(f"open_clip:{spec}", weights=weights)
    assert told in str(caught.value)


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no route\nsecond line")

    monkeypatch.setattr(open_clip, "create_model", unreachable)
    with pytest.raises(WeightsError, match=r"ViT-B-16/openai.*no route.*weights=None") as caught:
        load_model("open_clip:ViT-B-16/openai")
    assert "second line" not in str(caught.value)


def test_a_tokenizer_that_cannot_be_downloaded(
    folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(open_clip, "get_tokenizer", unreachable)
    with pytest.raises(WeightsError, match=r"tokenizer.*no route.*SimilarityTarget"):
        visattn.TextTarget("a cat").embedding(loaded(folder("vit")))


def test_a_module_in_memory_brings_its_preprocessing(folder: Callable[[str], Path]) -> None:
    clip = open_clip.create_model(f"local-dir:{folder('vit')}")
    model = load_model(clip)
    assert model.module is clip.visual
    image = noise()
    assert torch.equal(model.prepare(image).tensor, loaded(folder("vit")).prepare(image).tensor)
    with pytest.raises(TargetError, match="no text tower"):
        visattn.TextTarget("a cat").embedding(model)


def test_a_library_that_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ModelError, match=r"pip install 'visattn\[open_clip\]'"):
        load_model("open_clip:ViT-B-16/openai")
