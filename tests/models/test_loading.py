"""load_model: names, modules, checkpoints, labels, sizes; and every way to fail early."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
from timm.layers import resample_abs_pos_embed
from torch import nn

from visattn.errors import ImageError, ModelError, WeightsError
from visattn.images import Image, Size
from visattn.models import Model, load_model
from visattn.models.inputs import prepare_all

LABELS = ("cat", "dog", "crane", "cup", "tea", "sun", "sea")


class Plain(nn.Module):
    """A module that declares nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.conv(batch).mean(dim=(2, 3))


def tiny(**changes: Any) -> nn.Module:
    return timm.create_model("test_vit", **changes).eval()


def random_vit(**changes: Any) -> Model:
    return load_model("test_vit", weights=None, device="cpu", **changes)


def photo(height: int = 90, width: int = 140) -> Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image(pixels)


def equal_states(one: nn.Module, other: nn.Module, besides: tuple[str, ...] = ()) -> bool:
    first, second = one.state_dict(), other.state_dict()
    assert list(first) == list(second)
    return all(torch.equal(first[name], second[name]) for name in first if name not in besides)


def save_safetensors(module: nn.Module, path: Path) -> Path:
    safetensors.torch.save_file(module.state_dict(), path)
    return path


def save_pth(module: nn.Module, path: Path) -> Path:
    torch.save(module.state_dict(), path)
    return path


# Modules --------------------------------------------------------------------------------------


def test_a_module_is_taken_as_it_is() -> None:
    module = tiny(num_classes=7).double().train()
    module.blocks[0].eval()
    model = load_model(module, labels=LABELS)
    assert model.module is module
    assert model.dtype == torch.float64
    assert model.name == "VisionTransformer"
    assert model.adapter.family == "vision_transformer"
    assert model.labels == LABELS
    assert module.training
    assert not module.blocks[0].training
    assert all(weight.requires_grad for weight in module.parameters())


def test_a_module_of_timm_brings_its_own_preprocessing() -> None:
    model = load_model(tiny())
    assert model.input_size == Size(160, 160)
    prepared = model.prepare(photo())
    assert prepared.tensor.shape == (3, 160, 160)
    real = timm.data.create_transform(**timm.data.resolve_data_config({}, model=model.module))
    assert torch.equal(prepared.tensor, real(photo().pillow()))


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "DataParallel": nn.DataParallel,
    "compile": torch.compile,
    "both": lambda module: nn.DataParallel(torch.compile(module)),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_are_taken_off(name: str) -> None:
    module = tiny(num_classes=7)
    model = load_model(WRAPPERS[name](module))
    assert model.module is module
    assert model.name == "VisionTransformer"
    assert model.input_size == Size(160, 160)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["script", "trace"])
def test_compiled_torchscript_is_refused(kind: str) -> None:
    module = Plain().eval()
    scripted = (
        torch.jit.script(module)
        if kind == "script"
        else torch.jit.trace(module, torch.zeros(1, 3, 8, 8))
    )
    with pytest.raises(ModelError, match=r"TorchScript.*load the original nn\.Module"):
        load_model(scripted)


def test_without_preprocessing_photos_are_refused_and_tensors_accepted() -> None:
    model = load_model(Plain())
    assert model.preprocessing is None
    assert model.input_size is None
    with pytest.raises(ModelError, match=r"preprocessing of Plain is not known.*tensors"):
        model.prepare(photo())
    prepared = prepare_all(model, torch.rand(2, 3, 24, 40))
    assert [item.geometry.original for item in prepared] == [Size(24, 40)] * 2
    assert model.run(model.stack(prepared)).shape == (2, 4)


def test_a_transform_makes_photos_welcome() -> None:
    from torchvision import transforms

    steps = [transforms.Resize(32), transforms.CenterCrop((24, 40)), transforms.ToTensor()]
    model = load_model(Plain(), transform=transforms.Compose(steps))
    prepared = model.prepare(photo())
    assert prepared.tensor.shape == (3, 24, 40)
    assert prepared.geometry.original == Size(90, 140)


def test_a_transform_that_cannot_be_traced_is_refused() -> None:
    from torchvision import transforms

    with pytest.raises(ModelError, match="ColorJitter"):
        load_model(Plain(), transform=transforms.ColorJitter())


# Names ----------------------------------------------------------------------------------------


def test_random_weights_come_from_the_callers_seed() -> None:
    torch.manual_seed(3)
    one = random_vit()
    torch.manual_seed(3)
    other = load_model("timm:test_vit", weights=None, device="cpu")
    assert equal_states(one.module, other.module)
    assert one.weights_sha256 == other.weights_sha256
    assert one.name == other.name == "test_vit"
    assert one.source == "random initialisation"
    assert not one.module.training
    assert one.weights_sha256 != random_vit().weights_sha256


def test_an_imagenet_model_brings_its_class_names() -> None:
    model = random_vit()
    assert model.labels is not None
    assert len(model.labels) == 1000
    assert (model.label(285), model.label(967)) == ("Egyptian cat", "espresso")
    assert model.label(1000) == "class 1000"


@pytest.mark.parametrize(
    ("size", "expected"), [(96, Size(96, 96)), ((96, 128), Size(96, 128)), (None, Size(160, 160))]
)
@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet"])
def test_image_sizes(name: str, size: Any, expected: Size) -> None:
    model = load_model(name, weights=None, image_size=size, device="cpu")
    assert model.input_size == expected
    prepared = model.prepare(photo())
    assert prepared.tensor.shape[-2:] == expected
    assert model.run(model.stack([prepared])).shape == (1, 1000)


@pytest.mark.parametrize("size", [0, -32, (96,), (96, 128, 3), (96.0, 128), "96", (96, 0)])
def test_what_is_no_size_is_refused(size: Any) -> None:
    with pytest.raises(ModelError, match="neither a size nor"):
        random_vit(image_size=size)


@pytest.mark.parametrize(
    ("dtype", "expected"), [("float64", torch.float64), ("bfloat16", torch.bfloat16)]
)
def test_dtypes(dtype: str, expected: torch.dtype) -> None:
    model = random_vit(dtype=dtype)
    assert model.dtype == expected
    assert model.run(model.stack([model.prepare(photo())])).dtype == expected


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"spec": "tset_vit"}, "timm has no model 'tset_vit'. Did you mean 'test_vit'?"),
        ({"spec": "vit_smal_patch16_224"}, "Did you mean 'vit_small_patch16_224'?"),
        ({"spec": "timm:tset_vit"}, "timm has no model 'tset_vit'. Did you mean 'test_vit'?"),
        ({"spec": "tim:test_vit"}, "no model source 'tim'. Did you mean 'timm'?"),
        ({"spec": "packaged:dinov2_smal", "weights": "pretrained"}, "Did you mean 'dinov2_small'?"),
        ({"spec": ""}, "timm has no model ''"),
        ({"dtype": "float"}, "no dtype 'float'"),
        ({"dtype": "flaot32"}, "Did you mean 'float32'?"),
        ({"device": "cuda:99"}, "Device 'cuda:99' cannot be used"),
        ({"device": "gpu"}, "Device 'gpu' cannot be used"),
    ],
)
def test_wrong_names_are_refused_with_the_right_one(arguments: dict[str, str], told: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_model(**{"spec": "test_vit", "weights": None, **arguments})
    assert told in str(caught.value)


def test_a_specification_of_another_type_is_refused() -> None:
    with pytest.raises(ModelError, match="int"):
        load_model(7)  # type: ignore[arg-type]


def test_an_unreachable_hub_is_a_weights_error_that_says_what_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def unreachable(name: str, pretrained: bool = False, **_: Any) -> nn.Module:
        asked.append((name, pretrained))
        raise OSError("We couldn't connect to the hub\nsecond line")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(WeightsError) as caught:
        load_model("test_vit")
    message = str(caught.value)
    assert asked == [("test_vit", True)]
    assert "test_vit" in message
    assert "We couldn't connect to the hub" in message
    assert "second line" not in message
    for way_out in ("weights=None", ".safetensors", "packaged:dinov2_small"):
        assert way_out in message
    assert isinstance(caught.value.__cause__, OSError)


def test_labels_do_not_replace_a_pretrained_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """With two labels timm would put a random head of two classes on pretrained features."""
    real = timm.create_model

    def offline(name: str, pretrained: bool = False, **arguments: Any) -> nn.Module:
        return real(name, pretrained=False, **arguments)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(ModelError, match="2 labels for the 1000 classes"):
        load_model("test_vit", labels=["cat", "dog"], device="cpu")


# Checkpoints ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("save", "name"), [(save_safetensors, "w.safetensors"), (save_pth, "w.pth")]
)
@pytest.mark.parametrize("architecture", ["test_vit", "test_resnet"])
def test_a_checkpoint_brings_its_weights_and_its_number_of_classes(
    tmp_path: Path, save: Any, name: str, architecture: str
) -> None:
    module = timm.create_model(architecture, num_classes=7).eval()
    path = save(module, tmp_path / name)
    model = load_model(architecture, weights=path, device="cpu", labels=LABELS)
    assert equal_states(model.module, module)
    assert model.adapter.num_classes == 7
    assert model.labels == LABELS
    assert model.source == f"checkpoint {name}"
    batch = model.stack([model.prepare(photo())])
    with torch.no_grad():
        assert torch.equal(model.run(batch), module(batch))


def test_a_checkpoint_of_an_embedding_has_no_classes(tmp_path: Path) -> None:
    path = save_safetensors(tiny(num_classes=0), tmp_path / "w.safetensors")
    model = load_model("test_vit", weights=path, device="cpu")
    assert model.adapter.num_classes == 0
    assert not model.has_classifier
    assert model.labels is None


def test_a_checkpoint_of_a_model_with_two_heads_is_read(tmp_path: Path) -> None:
    name = "deit_tiny_distilled_patch16_224"
    module = timm.create_model(name, num_classes=7).eval()
    path = save_safetensors(module, tmp_path / "w.safetensors")
    model = load_model(name, weights=path, device="cpu")
    assert equal_states(model.module, module)
    assert model.adapter.num_classes == 7


@pytest.mark.parametrize("save", [save_safetensors, save_pth])
def test_at_another_size_the_position_embedding_is_resampled(tmp_path: Path, save: Any) -> None:
    module = tiny(num_classes=7)
    path = save(module, tmp_path / ("w.pth" if save is save_pth else "w.safetensors"))
    model = load_model("test_vit", weights=str(path), image_size=(96, 128), device="cpu")
    assert equal_states(model.module, module, besides=("pos_embed",))
    expected = resample_abs_pos_embed(module.pos_embed, (6, 8), num_prefix_tokens=1)
    assert torch.allclose(model.module.pos_embed, expected, atol=1e-6)
    assert model.run(model.stack([model.prepare(photo())])).shape == (1, 7)


def test_a_missing_checkpoint_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"no checkpoint nowhere\.safetensors"):
        load_model("test_vit", weights="nowhere.safetensors")


def broken(path: Path, kind: str) -> Path:
    if kind == "garbage":
        path.write_bytes(b"not weights at all")
    elif kind == "empty":
        path.touch()
    elif kind == "truncated":
        whole = save_safetensors(tiny(num_classes=7), path).read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "another architecture":
        save_safetensors(timm.create_model("test_resnet"), path)
    return path


@pytest.mark.parametrize("kind", ["garbage", "empty", "truncated", "another architecture"])
def test_a_checkpoint_that_does_not_fit_is_a_weights_error(tmp_path: Path, kind: str) -> None:
    path = broken(tmp_path / "w.safetensors", kind)
    with pytest.raises(WeightsError, match=r"test_vit|w\.safetensors"):
        load_model("test_vit", weights=path, device="cpu")


def test_a_pickle_that_runs_code_is_not_run(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "owned",)

    torch.save({"state_dict": Evil()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError):
        load_model("test_vit", weights=tmp_path / "w.pth", device="cpu")
    assert not (tmp_path / "owned").exists()


# Labels ---------------------------------------------------------------------------------------


def label_file(path: Path) -> Path:
    if path.suffix == ".json":
        path.write_text(json.dumps(LABELS, indent=1), encoding="utf-8")
    else:
        path.write_text("\n".join(LABELS) + "\n\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["labels.txt", "labels.json"])
def test_labels_from_a_file(tmp_path: Path, name: str) -> None:
    path = label_file(tmp_path / name)
    for labels in (path, str(path)):
        model = random_vit(labels=labels)
        assert model.labels == LABELS
        assert model.adapter.num_classes == 7
        assert model.label(4) == "tea"


def test_labels_set_the_number_of_classes_of_a_random_model() -> None:
    assert random_vit(labels=list(LABELS)).adapter.num_classes == 7


def test_a_wrong_number_of_labels_is_refused(tmp_path: Path) -> None:
    path = save_safetensors(tiny(num_classes=5), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match="7 labels for the 5 classes of test_vit"):
        load_model("test_vit", weights=path, labels=LABELS, device="cpu")
    with pytest.raises(ModelError, match="7 labels for the 5 classes of VisionTransformer"):
        load_model(tiny(num_classes=5), labels=LABELS)


@pytest.mark.parametrize("text", ['["cat", ', '["cat", "dog"'])
def test_labels_that_cannot_be_read_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "labels.json").write_text(text)
    with pytest.raises(ModelError, match=r"labels\.json cannot be read"):
        random_vit(labels=tmp_path / "labels.json")
    with pytest.raises(ModelError, match=r"missing\.txt cannot be read"):
        random_vit(labels=tmp_path / "missing.txt")


# Facts ----------------------------------------------------------------------------------------


def test_facts_can_be_written_down() -> None:
    facts = json.loads(json.dumps(random_vit(image_size=(96, 128)).facts()))
    assert facts["name"] == "test_vit"
    assert facts["family"] == "vision_transformer"
    assert facts["input_size"] == [96, 128]
    assert facts["classes"] == 1000
    assert facts["dtype"] == "float32"
    assert len(facts["weights_sha256"]) == 64
    assert facts["parameters"] == sum(p.numel() for p in random_vit().module.parameters()) + (
        (6 * 8 - 10 * 10) * 64
    )


def test_the_hash_of_the_weights_sees_every_value() -> None:
    torch.manual_seed(0)
    module = tiny()
    before = load_model(module).weights_sha256
    with torch.no_grad():
        module.blocks[3].mlp.fc1.bias[5] += 1e-7
    assert load_model(module).weights_sha256 != before


def test_running_a_model_leaves_it_as_it_was() -> None:
    module = tiny(num_classes=7, proj_drop_rate=0.5).train()
    model = load_model(module)
    batch = torch.rand(1, 3, 160, 160)
    torch.manual_seed(1)
    random_state = torch.random.get_rng_state()
    first, second = model.run(batch), model.run(batch)
    assert torch.equal(first, second), "dropout was on"
    assert not first.requires_grad
    assert module.training
    assert torch.equal(torch.random.get_rng_state(), random_state)


# Inputs ---------------------------------------------------------------------------------------


def test_whatever_is_called_an_image_is_prepared(tmp_path: Path) -> None:
    model = random_vit()
    image = photo()
    image.pillow().save(tmp_path / "p.png")
    sources = [tmp_path / "p.png", str(tmp_path / "p.png"), image.pillow(), image.pixels, image]
    together = prepare_all(model, sources)
    assert len(together) == 5
    for source, prepared in zip(sources, together, strict=True):
        (alone,) = prepare_all(model, source)
        assert torch.equal(prepared.tensor, alone.tensor)
        assert torch.equal(prepared.tensor, together[0].tensor)
    assert model.stack(together).shape == (5, 3, 160, 160)


def test_a_prepared_tensor_is_its_own_photo() -> None:
    model = random_vit()
    tensor = model.prepare(photo(160, 160)).tensor
    (prepared,) = prepare_all(model, tensor[None])
    assert torch.equal(prepared.tensor, tensor)
    shown = model.preprocessing.photograph(tensor) if model.preprocessing else None
    assert shown is not None
    assert np.array_equal(prepared.image.pixels, shown.pixels)
    assert prepared.geometry.visible_fraction == 1


@pytest.mark.parametrize(
    "wrong",
    [[], (), torch.zeros(3, 8, 8), torch.zeros(1, 3, 8, 8, dtype=torch.uint8), [[1]], 3],
)
def test_what_is_no_image_is_refused(wrong: Any) -> None:
    with pytest.raises(ImageError):
        prepare_all(random_vit(), wrong)


def test_inputs_of_different_shapes_cannot_share_a_batch() -> None:
    model = load_model(Plain())
    prepared = [model.prepare_tensor(torch.zeros(3, 8, side)) for side in (8, 9)]
    with pytest.raises(ModelError, match=r"different shapes.*\(3, 8, 8\), \(3, 8, 9\)"):
        model.stack(prepared)
