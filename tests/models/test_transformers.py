"""Models of transformers: built from folders that the library itself wrote."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import transforms as steps

import visattn
from visattn.errors import ModelError, TargetError, WeightsError
from visattn.images import Image, Size
from visattn.models import Model, load_model
from visattn.models.image_processor import PROBES, _picture, traced
from visattn.models.text import VisionLanguageModel

transformers = pytest.importorskip("transformers")
t = transformers

WIDE: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32,
}  # fmt: skip
BODY: dict[str, Any] = {**WIDE, "image_size": 32, "patch_size": 8}
TEXT = {
    **WIDE, "max_position_embeddings": 8, "vocab_size": 8, "bos_token_id": 6, "eos_token_id": 7,
    "pad_token_id": 7, "projection_dim": 12,
}  # fmt: skip
SQUARE = {"height": 32, "width": 32}
NAMES = {0: "cat", 1: "dog", 2: "cup", 3: "sun", 4: "sea"}


def vit() -> tuple[Any, Any]:
    config = t.ViTConfig(**BODY, id2label=NAMES, label2id={v: k for k, v in NAMES.items()})
    return t.ViTForImageClassification(config), t.ViTImageProcessor(size=SQUARE)


def deit() -> tuple[Any, Any]:
    model = t.DeiTForImageClassificationWithTeacher(t.DeiTConfig(**BODY, num_labels=5))
    return model, t.DeiTImageProcessor(size={"height": 43, "width": 38}, crop_size=SQUARE)


def dinov2() -> tuple[Any, Any]:
    model = t.Dinov2Model(t.Dinov2Config(**BODY))
    return model, t.BitImageProcessor(size={"shortest_edge": 37}, crop_size=SQUARE)


def dinov3() -> tuple[Any, Any]:
    return t.DINOv3ViTModel(t.DINOv3ViTConfig(**BODY)), t.DINOv3ViTImageProcessor(size=SQUARE)


def mae() -> tuple[Any, Any]:
    decoder = {f"decoder_{key}": value for key, value in WIDE.items()}
    model = t.ViTMAEForPreTraining(t.ViTMAEConfig(**BODY, **decoder))
    return model, t.ViTImageProcessor(size=SQUARE, rescale_factor=1 / 127.5)


def convnext() -> tuple[Any, Any]:
    config = t.ConvNextConfig(hidden_sizes=[4, 4, 8, 8], depths=[1, 1, 1, 1], num_labels=5)
    processor = t.ConvNextImageProcessor(size={"shortest_edge": 64})
    return t.ConvNextForImageClassification(config), processor


def detr() -> tuple[Any, Any]:
    backbone = t.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 4, 8, 8], depths=[1, 1, 1, 1], out_features=["stage4"]
    )
    config = t.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None,
        backbone_config=backbone, d_model=16, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=16,
        decoder_ffn_dim=16, num_queries=3, num_labels=5,
    )  # fmt: skip
    processor = t.DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 100})
    return t.DetrForObjectDetection(config), processor


def clip() -> tuple[Any, Any]:
    config = t.CLIPConfig(vision_config=BODY, text_config=TEXT, projection_dim=12)
    processor = t.CLIPImageProcessor(size={"shortest_edge": 35}, crop_size=SQUARE)
    return t.CLIPModel(config), processor


def siglip() -> tuple[Any, Any]:
    config = t.SiglipConfig(vision_config=BODY, text_config={**TEXT, "projection_size": 16})
    return t.SiglipModel(config), t.SiglipImageProcessor(size=SQUARE)


KINDS: dict[str, Callable[[], tuple[Any, Any]]] = {
    made.__name__: made for made in (vit, deit, dinov2, dinov3, mae, convnext, detr, clip, siglip)
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a kind, written by the library at the first call."""
    root = tmp_path_factory.mktemp("models")

    def written(name: str) -> Path:
        place = root / name
        if not place.exists():
            torch.manual_seed(0)
            model, processor = KINDS[name]()
            model.save_pretrained(place)
            processor.save_pretrained(place)
            if name in ("clip", "siglip"):
                letters = ("a</w>", "cat</w>", "c", "a", "t", "t</w>", "<|startoftext|>")
                vocabulary = {word: i for i, word in enumerate((*letters, "<|endoftext|>"))}
                t.CLIPTokenizer(vocab=vocabulary, merges=[]).save_pretrained(place)
        return place

    return written


def loaded(place: Path, **changes: Any) -> Model:
    return load_model(f"hf:{place}", device="cpu", **changes)


def noise(height: int = 61, width: int = 88) -> Image:
    return Image(np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8))


# Folders --------------------------------------------------------------------------------------


def embedded(name: str, place: Path, pixels: torch.Tensor) -> torch.Tensor:
    """Return what the library itself computes for pixels."""
    kind = {"mae": "ViTMAEModel"}.get(name) or json.loads(
        (place / "config.json").read_text(encoding="utf-8")
    )["architectures"][0]
    options: dict[str, Any] = {"mask_ratio": 0.0} if name == "mae" else {}
    module = getattr(t, kind).from_pretrained(place, **options).eval()
    with torch.no_grad():
        if name in ("clip", "siglip"):
            return module.get_image_features(pixels).pooler_output
        if name == "mae":
            return module(pixels, noise=torch.arange(16.0)[None]).last_hidden_state
        output = module(pixels)
    logits = getattr(output, "logits", None)
    return output.pooler_output if logits is None else logits


@pytest.mark.parametrize("name", KINDS)
def test_outputs_and_inputs_are_those_of_the_library(
    name: str, folder: Callable[[str], Path]
) -> None:
    place = folder(name)
    model = loaded(place)
    processor = t.AutoImageProcessor.from_pretrained(place)
    for image in (noise(), noise(90, 47)):
        prepared = model.prepare(image)
        own = processor(images=image.pillow(), return_tensors="pt")["pixel_values"]
        assert prepared.tensor.shape == own.shape[1:]
        assert torch.allclose(prepared.tensor, own[0], atol=1e-5), (
            "more than 1e-5 after normalising"
        )
        assert torch.equal(
            model.run(prepared.tensor[None]), embedded(name, place, prepared.tensor[None])
        )
    assert model.input_size == (None if name == "detr" else Size(*own.shape[-2:]))
    assert not model.module.training
    assert model.source == f"transformers {place}"


@pytest.mark.parametrize("name", ["vit", "deit", "dinov2", "convnext", "detr", "dinov3"])
@pytest.mark.parametrize("size", [(200, 301), (331, 203)])
def test_the_geometry_finds_the_spot_that_the_model_saw(
    name: str, size: tuple[int, int], folder: Callable[[str], Path]
) -> None:
    """A white square on black: its centre in the input lies where the geometry says."""
    pixels = np.zeros((*size, 3), np.uint8)
    top, left = size[0] // 2 + 20, size[1] // 2 - 40
    pixels[top : top + 31, left : left + 31] = 255
    prepared = loaded(folder(name)).prepare(Image(pixels))
    seen = prepared.tensor.mean(0) - prepared.tensor.mean(0).min()
    rows, cols = (torch.arange(n) + 0.5 for n in seen.shape)
    row, col = (
        float((seen.sum(1) * rows).sum() / seen.sum()),
        float((seen.sum(0) * cols).sum() / seen.sum()),
    )
    found = prepared.geometry.grid_to_original(row, col)
    pixel = max(size[0] / seen.shape[0], size[1] / seen.shape[1])
    assert found == pytest.approx((top + 15.5, left + 15.5), abs=0.15 * pixel)


def test_labels_come_from_the_configuration(folder: Callable[[str], Path]) -> None:
    assert loaded(folder("vit")).labels == tuple(NAMES.values())
    assert loaded(folder("deit")).labels is None, "LABEL_0 is a number, not a name"
    assert loaded(folder("dinov2")).labels is None


def test_a_masked_autoencoder_keeps_its_patches_in_place(folder: Callable[[str], Path]) -> None:
    model = loaded(folder("mae"))
    batch = torch.rand(2, 3, 32, 32)
    torch.manual_seed(5)
    first = model.run(batch)
    assert torch.equal(first, model.run(batch))
    assert first.shape == (2, 17, 16)
    changed = batch.clone()
    changed[:, :, 8:16, 16:24] += 1
    difference = (model.run(changed) - first).norm(dim=-1)
    assert difference[:, 1:].argmax(dim=1).tolist() == [4 + 2] * 2


# Random weights and other sizes ---------------------------------------------------------------


@pytest.fixture
def bare(folder: Callable[[str], Path], tmp_path: Path) -> Path:
    """Return a folder that holds a configuration only."""
    shutil.copy(folder("vit") / "config.json", tmp_path / "config.json")
    return tmp_path


def test_a_configuration_is_enough_for_random_weights(bare: Path) -> None:
    torch.manual_seed(3)
    one = loaded(bare, weights=None)
    torch.manual_seed(3)
    other = loaded(bare, weights=None)
    assert one.weights_sha256 == other.weights_sha256 != loaded(bare, weights=None).weights_sha256
    assert one.source == "random initialisation"
    assert one.input_size == Size(32, 32)
    assert one.preprocessing is None
    with pytest.raises(ModelError, match="preprocessing"):
        one.prepare(noise())
    assert loaded(bare, weights=None, labels=["a", "b"]).run(torch.rand(1, 3, 32, 32)).shape == (
        1,
        2,
    )


def test_a_configuration_without_a_class_is_read_as_a_classifier(bare: Path) -> None:
    config = json.loads((bare / "config.json").read_text(encoding="utf-8"))
    del config["architectures"]
    (bare / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert type(loaded(bare, weights=None).module).__name__ == "ViTForImageClassification"


def test_a_transform_takes_the_place_of_a_missing_processor(bare: Path) -> None:
    plain = steps.Compose([steps.Resize((32, 32)), steps.ToTensor()])
    assert loaded(bare, weights=None, transform=plain).prepare(noise()).tensor.max() <= 1
    processor = t.ViTImageProcessor(size={"height": 24, "width": 16})
    model = loaded(bare, weights=None, transform=processor)
    assert model.input_size == Size(24, 16)


def test_a_checkpoint_file_fills_the_configured_model(
    bare: Path, folder: Callable[[str], Path]
) -> None:
    model = loaded(bare, weights=folder("vit") / "model.safetensors")
    assert model.weights_sha256 == loaded(folder("vit")).weights_sha256
    with pytest.raises(WeightsError, match=r"The weights of .*dinov2.model\.safetensors"):
        loaded(bare, weights=folder("dinov2") / "model.safetensors")
    with pytest.raises(ModelError, match="ONNX"):
        loaded(bare, weights="model.onnx")


@pytest.mark.parametrize("name", ["vit", "clip", "dinov2"])
def test_at_another_size_positions_are_interpolated_by_the_library(
    name: str, folder: Callable[[str], Path]
) -> None:
    model = loaded(folder(name), image_size=(48, 40))
    assert model.input_size == Size(48, 40)
    prepared = model.prepare(noise())
    assert prepared.tensor.shape == (3, 48, 40)
    assert model.run(prepared.tensor[None]).shape[0] == 1
    if name == "vit":
        own = t.ViTForImageClassification.from_pretrained(folder(name)).eval()
        with torch.no_grad():
            expected = own(prepared.tensor[None], interpolate_pos_encoding=True).logits
        assert torch.equal(model.run(prepared.tensor[None]), expected)


def test_random_weights_are_built_for_the_size_that_was_asked_for(bare: Path) -> None:
    model = loaded(bare, weights=None, image_size=48)
    assert model.input_size == Size(48, 48)
    assert model.run(torch.rand(1, 3, 48, 48)).shape == (1, 5)


# Text -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_a_text_is_embedded_by_the_tower_beside(name: str, folder: Callable[[str], Path]) -> None:
    model = loaded(folder(name))
    assert isinstance(model, VisionLanguageModel)
    whole = getattr(t, {"clip": "CLIPModel", "siglip": "SiglipModel"}[name])
    whole = whole.from_pretrained(folder(name)).eval()
    tokens = torch.tensor([[6, 0, 2, 3, 5, 7, 7, 7]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1, 0, 0]])
    with torch.no_grad():
        own = whole.get_text_features(tokens, attention_mask=mask).pooler_output
    assert torch.allclose(model.text.embed(["a cat"]), own, atol=1e-6)
    assert model.run(torch.rand(1, 3, 32, 32)).shape == own.shape
    assert model.facts()["text_weights_sha256"] != model.facts()["weights_sha256"]


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_a_text_is_explained_on_a_photo(name: str, folder: Callable[[str], Path]) -> None:
    model, image = loaded(folder(name)), noise()
    maps = [
        visattn.explain(model, image, target=visattn.TextTarget(text))[0] for text in ("a", "cat")
    ]
    assert [m.method for m in maps] == ["cp_lrp", "cp_lrp"]
    assert [m.grid.shape for m in maps] == [(4, 4), (4, 4)]
    assert maps[0].geometry.original == image.size
    assert maps[0].target is not None
    assert maps[0].target.label == "similarity to 'a'"
    assert not np.allclose(maps[0].grid / maps[0].grid.sum(), maps[1].grid / maps[1].grid.sum())
    assert "text_weights_sha256" in maps[0].provenance["model"]


def test_a_prompt_that_is_too_long_is_refused(folder: Callable[[str], Path]) -> None:
    model = loaded(folder("clip"))
    with pytest.raises(TargetError, match=r"'a a a a a a a a'.*10 tokens.*reads 8"):
        visattn.TextTarget("a a a a a a a a").embedding(model)


def test_without_tokenizer_a_text_is_refused(folder: Callable[[str], Path], tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder("clip") / name, tmp_path / name)
    with pytest.raises(WeightsError, match=r"tokenizer.*SimilarityTarget"):
        visattn.TextTarget("a").embedding(loaded(tmp_path))


# Modules in memory ----------------------------------------------------------------------------


def test_a_module_in_memory_brings_its_facts() -> None:
    module, processor = vit()
    model = load_model(module, transform=processor)
    assert model.module is module
    assert model.labels == tuple(NAMES.values())
    assert model.input_size == Size(32, 32)
    assert model.prepare(noise()).tensor.shape == (3, 32, 32)
    assert load_model(module).preprocessing is None


def test_of_two_towers_in_memory_the_image_tower_is_explained() -> None:
    whole, _ = clip()
    model = load_model(whole.train())
    assert type(model.module).__name__ == "CLIPVisionModelWithProjection"
    assert model.module.vision_model is whole.vision_model
    with pytest.raises(TargetError, match="has no text tower"):
        visattn.TextTarget("a").embedding(model)


def test_what_cannot_be_read_in_memory_is_refused() -> None:
    with pytest.raises(ModelError, match=r"ViTMAEForPreTraining shuffles.*save_pretrained"):
        load_model(mae()[0])
    text = t.CLIPTextModel(t.CLIPTextConfig(**TEXT))
    with pytest.raises(ModelError, match="CLIPTextModel takes input_ids, not pixels"):
        load_model(text)


# Refusals -------------------------------------------------------------------------------------


def test_a_processor_that_does_more_is_refused() -> None:
    class Mirrored(t.ViTImageProcessor):
        def _preprocess(self, images: Any, **options: Any) -> Any:
            return super()._preprocess([image.flip(-1) for image in images], **options)

    with pytest.raises(ModelError, match="Mirrored does more than resize"):
        traced(Mirrored(size=SQUARE))


def test_a_processor_that_crops_inside_its_resize_is_refused() -> None:
    class Cropping(t.ViTImageProcessor):
        def resize(self, image: Any, size: Any, *rest: Any, **options: Any) -> Any:
            return super().resize(image[..., 2:-2, :], size, *rest, **options)

    with pytest.raises(ModelError, match="Cropping does more than resize"):
        traced(Cropping(size=SQUARE))


def test_a_crop_that_rounds_the_other_way_would_be_noticed() -> None:
    """The processor rounds odd margins down, torchvision to the nearest even number."""
    composed, _ = traced(t.BitImageProcessor(size={"shortest_edge": 37}, crop_size=SQUARE))
    own = [step for step in composed.transforms if "even margins" not in str(step)]
    assert len(own) == len(composed.transforms) - 1
    pictures = [_picture(size) for size in PROBES]
    assert not all(torch.equal(composed(p), steps.Compose(own)(p)) for p in pictures)


def test_a_processor_on_arrays_is_traced_too() -> None:
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    processor = ViTImageProcessorPil(size={"height": 30, "width": 21}, resample=3)
    composed, size = traced(processor)
    image = noise().pillow()
    own = processor(images=image, return_tensors="pt")["pixel_values"][0]
    assert size == Size(30, 21)
    assert torch.allclose(composed(image), own, atol=1e-5)


def test_weights_that_leave_a_random_head_are_refused(
    folder: Callable[[str], Path], tmp_path: Path
) -> None:
    shutil.copytree(folder("dinov2"), tmp_path / "cut")
    path = tmp_path / "cut" / "config.json"
    text = path.read_text(encoding="utf-8").replace("Dinov2Model", "Dinov2ForImageClassification")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(
        WeightsError, match=r"do not cover Dinov2ForImageClassification.*classifier"
    ):
        loaded(tmp_path / "cut")


def test_an_unreachable_hub_is_a_weights_error_that_says_what_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unreachable(*_: Any, **__: Any) -> None:
        raise OSError("We couldn't connect\nsecond line")

    monkeypatch.setattr(t.AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(
        WeightsError, match=r"hf:org/name.*couldn't connect.*hf:\./folder"
    ) as caught:
        load_model("hf:org/name")
    assert "second line" not in str(caught.value)


def test_a_missing_folder_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"no folder '\./nowhere'"):
        load_model("hf:./nowhere")


def test_a_library_that_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelError, match=r"pip install 'visattn\[transformers\]'"):
        load_model("hf:org/name")
