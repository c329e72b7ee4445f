"""explain: one call from images to maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage

import visattn
from tests import zoo
from visattn.errors import TargetError, UnsupportedMethodError, VisattnError
from visattn.explanation import Request, explain_batch
from visattn.models import Model
from visattn.models.inputs import prepare_all


@pytest.fixture(scope="module")
def model() -> Model:
    return visattn.load_model(zoo.build("class"), image_size=zoo.SIZE)


def test_every_kind_of_image_gives_the_same_map(model: Model, photos: Path) -> None:
    path = photos / "cat.jpg"
    picture = PillowImage.open(path)
    kinds = [str(path), path, picture, np.asarray(picture)]
    first, *others = visattn.explain(model, kinds, method="rollout")
    assert len(others) == 3
    for other in others:
        np.testing.assert_array_equal(first.grid, other.grid)
    alone = visattn.explain(model, path, method="rollout")
    assert len(alone) == 1


def test_a_map_knows_the_photo_it_came_from(model: Model, photos: Path) -> None:
    (found,) = visattn.explain(model, photos / "cameraman.jpg", method="rollout")
    assert found.on_image().shape == (512, 416)
    assert found.overlay().size == (416, 512)
    assert found.provenance["image"]["path"] == str(photos / "cameraman.jpg")
    assert found.photo is None


def test_a_tensor_is_shown_as_the_picture_it_holds(model: Model) -> None:
    (found,) = visattn.explain(model, zoo.images(1).clamp(-1, 1), method="rollout")
    assert found.overlay().size == (80, 48)


def test_one_target_per_image_across_batches(model: Model) -> None:
    maps = visattn.explain(
        model, zoo.images(3), method="gae", target=[4, "top2", None], batch_size=2
    )
    assert maps[0].target is not None
    assert maps[0].target.index == 4
    for wrong in ([1], [1, 2, 3, 4]):
        with pytest.raises(TargetError, match=f"{len(wrong)} targets"):
            visattn.explain(model, zoo.images(3), method="gae", target=wrong)


def test_target_and_probability_are_those_of_the_same_pass(lite0: Model, photos: Path) -> None:
    (found,) = visattn.explain(lite0, photos / "coffee.jpg", method="gradcam")
    assert found.target is not None
    assert (found.target.index, found.target.label) == (967, "espresso")
    assert found.target.probability == pytest.approx(0.95, abs=0.03)
    assert found.prediction == found.target
    (other,) = visattn.explain(lite0, photos / "coffee.jpg", method="gradcam", target="cup")
    assert other.target is not None
    assert other.target.label == "cup"
    assert other.prediction == found.target


def test_auto_is_a_named_method(model: Model, lite0: Model, photos: Path) -> None:
    (found,) = visattn.explain(model, zoo.images(1))
    assert (found.method, found.provenance["readout"]) == ("cp_lrp", "tokens")
    assert found.provenance["changed"]["gamma_linear"] == 0.25
    swin = visattn.load_model(zoo.build("swin"), image_size=zoo.size_of("swin"))
    (windowed,) = visattn.explain(swin, zoo.images(1, zoo.size_of("swin")))
    assert (windowed.method, windowed.provenance["readout"]) == ("cp_lrp", "pixels")
    assert visattn.explain(model, zoo.images(1), query=(1, 2))[0].method == "gae"
    assert visattn.explain(lite0, photos / "cat.jpg")[0].method == "gradcam"
    headless = visattn.load_model(zoo.build("headless"))
    assert visattn.explain(headless, zoo.images(1))[0].method == "rollout"
    assert visattn.explain(headless, zoo.images(1), target="embedding")[0].method == "cp_lrp"
    with pytest.raises(TargetError, match="no classifier"):
        visattn.explain(headless, zoo.images(1), method="gae")


def test_a_headless_model_is_explained_by_similarity(photos: Path, dinov2: Model) -> None:
    target = visattn.SimilarityTarget(photos / "coffee.jpg")
    cat, coffee = visattn.explain(
        dinov2, [photos / "cat.jpg", photos / "rocket.jpg"], method="gae", target=target
    )
    assert cat.target is not None
    assert cat.target.label == "similarity to coffee.jpg"
    assert cat.target.index is None
    assert cat.no_signal is None
    assert coffee.no_signal is None


def test_several_requests_share_one_pass(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    plain = model.module.forward
    monkeypatch.setattr(model.module, "forward", lambda x: passes.append(1) or plain(x))
    requests = [Request(m) for m in ("rollout", "gae", "attention", "gradcam", "layercam")]
    prepared = prepare_all(model, zoo.images(2))
    answers = explain_batch(model, prepared, requests)
    assert len(passes) == 1
    assert [[m.method for m in row] for row in answers] == [[r.method for r in requests]] * 2
    for place, request in enumerate(requests):
        right = visattn.explain(model, zoo.images(2), method=request.method)
        np.testing.assert_allclose(answers[1][place].grid, right[1].grid, rtol=1e-4, atol=1e-8)


def test_a_request_that_fails_does_not_take_the_others_down(model: Model) -> None:
    requests = [
        Request("rollout"),
        Request("gae", target=99),
        Request("rollout", target=1),
        Request("gae", options={"start": 1}),
        Request("gae", target=1),
    ]
    (row,) = explain_batch(model, prepare_all(model, zoo.images(1)), requests)
    assert isinstance(row[0], visattn.SaliencyMap)
    assert isinstance(row[1], TargetError)
    assert isinstance(row[2], UnsupportedMethodError)
    assert isinstance(row[3], UnsupportedMethodError)
    assert isinstance(row[4], visattn.SaliencyMap)


def test_without_signal_a_map_says_so(model: Model) -> None:
    (found,) = visattn.explain(
        model, zoo.images(1), method="gae", target=lambda outputs: outputs[:, 0] * 0
    )
    assert found.no_signal == "all cells are zero"
    assert any("no signal" in warning for warning in found.warnings)


def test_provenance_is_enough_to_repeat_the_map(model: Model, photos: Path, tmp_path: Path) -> None:
    (found,) = visattn.explain(model, photos / "cat.jpg", method="rollout", residual=0.3)
    loaded = visattn.SaliencyMap.load(found.save(tmp_path / "map.npz"))
    stored = loaded.provenance
    (again,) = visattn.explain(
        model, stored["image"]["path"], method=loaded.method, **stored["options"]
    )
    np.testing.assert_array_equal(again.grid, found.grid)
    assert stored["model"]["weights_sha256"] == model.weights_sha256


def test_memory_is_flat_over_many_images(model: Model) -> None:
    """Nothing of a pass outlives its maps."""
    import gc

    def tensors() -> int:
        gc.collect()
        return sum(issubclass(type(item), torch.Tensor) for item in gc.get_objects())

    visattn.explain(model, zoo.images(4), method="gae")
    before = tensors()
    for _ in range(20):
        visattn.explain(model, zoo.images(4), method="gae")
    assert tensors() <= before


def test_errors_are_ours() -> None:
    with pytest.raises(VisattnError, match="Did you mean 'rollout'"):
        visattn.explain(zoo.build("class"), zoo.images(1), method="rolout")
    with pytest.raises(VisattnError, match="No image"):
        visattn.explain(zoo.build("class"), [])


class Spotlight(torch.nn.Module):
    """Answers with the brightness at one place of its input: the evidence is known."""

    def __init__(self, row: int, col: int) -> None:
        super().__init__()
        self.place, self.gain = (row, col), torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        row, col = self.place
        seen = inputs[:, :, row : row + 4, col : col + 4].mean(dim=(1, 2, 3))
        return torch.stack([seen * self.gain, -seen], dim=1)


@pytest.mark.parametrize("image", ["cat.jpg", "astronaut.jpg", "cameraman.jpg"])
@pytest.mark.parametrize("place", [(4, 8), (6, 50), (80, 10), (60, 40)])
def test_the_peak_lands_on_the_evidence_in_the_photo(
    photos: Path, image: str, place: tuple[int, int]
) -> None:
    """End to end on portrait and landscape photos, through resize and crop."""
    from timm.data import create_transform

    transform = create_transform((3, 96, 64), crop_pct=0.8)
    model = visattn.load_model(Spotlight(*place), image_size=(96, 64), transform=transform)
    photo = visattn.load_image(photos / image)
    (found,) = visattn.explain(model, photos / image, method="integrated_gradients", target=0)
    spread = np.abs(found.on_image())
    assert spread.shape == photo.size
    rows, cols = np.nonzero(np.nan_to_num(spread) > 0.05 * np.nanmax(spread))
    scale = min(photo.size.height / 120, photo.size.width / 80)
    expected_y = photo.size.height / 2 + (place[0] + 2 - 48) * scale
    expected_x = photo.size.width / 2 + (place[1] + 2 - 32) * scale
    assert abs((rows.min() + rows.max() + 1) / 2 - expected_y) < 1.5 * scale
    assert abs((cols.min() + cols.max() + 1) / 2 - expected_x) < 1.5 * scale


def test_an_uncapturable_model_still_gets_what_needs_no_attention(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visattn.errors import CaptureError
    from visattn.observation import observe

    def broken(*args: object, attention: bool = True, **kwargs: object) -> object:
        if attention:
            raise CaptureError("planned")
        return observe(*args, attention=False, **kwargs)

    monkeypatch.setattr("visattn.observation.passes.observe", broken)
    names = ["rollout", "gae", "gradcam", "center", "random"]
    requests = [Request(name) for name in names] + [Request("layercam", options={"layer": "no"})]
    (row,) = explain_batch(model, prepare_all(model, zoo.images(1)), requests)
    kinds = [type(answer) for answer in row]
    assert kinds == [CaptureError, CaptureError, *[visattn.SaliencyMap] * 3, CaptureError]


def test_outputs_that_are_no_class_scores_are_refused() -> None:
    module = zoo.build("class")
    module.head = torch.nn.Identity()
    with pytest.raises(TargetError, match="has no classifier"):
        visattn.explain(module, zoo.images(1), method="gae")


def test_a_module_is_prepared_for_the_size_it_was_built_for(cat: np.ndarray) -> None:
    (found,) = visattn.explain(zoo.build("class"), cat, method="rollout")
    assert found.geometry.input == zoo.SIZE


def test_what_the_model_cannot_run_on_is_said() -> None:
    with pytest.raises(visattn.ModelError, match=r"cannot run on \(1, 3, 64, 64\)"):
        visattn.explain(zoo.build("class"), zoo.images(1, (64, 64)), method="rollout")


def test_channels_last_feature_maps_are_read_as_such() -> None:
    """A head that pools (batch, row, col, channel), as Swin's and Sequencer's do."""

    class ChannelsLast(torch.nn.Module):
        num_features, num_classes = 8, 3

        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Conv2d(3, 8, 16, 16)
            self.global_pool = torch.nn.Identity()
            self.head = torch.nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.global_pool(self.stem(x).permute(0, 2, 3, 1)).mean((1, 2)))

    (found,) = visattn.explain(ChannelsLast(), zoo.images(1), method="layercam", target=0)
    assert found.grid.shape == zoo.GRID


class Unknown(torch.nn.Module):
    """Self-attention in a class that no family claims."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 1
        self.embed, self.head = torch.nn.Conv2d(3, 8, 16, 16), torch.nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(inputs).flatten(2).transpose(1, 2)
        mixed = torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)
        return self.head(mixed.mean(dim=1))


@pytest.mark.parametrize("method", ["rollout", "gradcam"])
def test_transformers_of_no_known_family_are_not_taken_for_cnns(method: str) -> None:
    with pytest.raises(UnsupportedMethodError, match="no family that visattn knows"):
        visattn.explain(Unknown(), zoo.images(1), method=method)


def test_a_subclass_from_elsewhere_is_named_in_the_warnings() -> None:
    from timm.models.vision_transformer import VisionTransformer

    class Mine(VisionTransformer):
        pass

    module = Mine(img_size=zoo.SIZE, embed_dim=32, depth=2, num_heads=2, num_classes=3)
    (found,) = visattn.explain(module, zoo.images(1), method="rollout")
    assert any("Mine is read as" in warning for warning in found.warnings)


def test_provenance_follows_the_weights() -> None:
    module = zoo.build("class")
    model = visattn.load_model(module)
    before = model.weights_sha256
    assert model.weights_sha256 == before
    with torch.no_grad():
        module.head.bias.add_(1)
    assert model.weights_sha256 != before


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"batch_size": -1}])
def test_impossible_batch_sizes_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(visattn.ConfigError, match="batch_size"):
        visattn.explain(zoo.build("class"), zoo.images(1), method="rollout", **options)
    with pytest.raises(visattn.ImageError, match="No image"):
        visattn.explain(zoo.build("class"), zoo.images(0), method="rollout")


class Attentive(torch.nn.Module):
    """A norm that somebody replaced by attention."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.scaled_dot_product_attention(tokens, tokens, tokens)


@pytest.mark.parametrize("method", ["rollout", "attention"])
def test_attention_that_no_adapter_knows_is_an_error_and_no_map(method: str) -> None:
    module = zoo.build("class")
    module.norm = Attentive()
    with pytest.raises(visattn.CaptureError, match=r"norm attended in this pass.*no place"):
        visattn.explain(module, zoo.images(1), method=method)


def test_a_regular_pattern_is_told_where_it_makes_up_the_map() -> None:
    from visattn.explanation import REGULAR
    from visattn.statistics import lattice

    size = zoo.size_of("mobilevit")
    model = visattn.load_model(zoo.build("mobilevit"), image_size=size)
    (found,) = visattn.explain(model, zoo.images(1, size), method="rollout")
    share = lattice(found.grid)
    told = [note for note in found.warnings if "every second cell" in note]
    assert bool(told) == (share is not None and share >= REGULAR)


@pytest.mark.parametrize(
    ("method", "treatable"), [("gae", True), ("grad_sam", False), ("tam", False)]
)
def test_a_repair_is_advised_only_where_the_method_has_it(
    method: str, treatable: bool, photos: Path, dinov2: Model
) -> None:
    (found,) = visattn.explain(dinov2, photos / "cat.jpg", method=method, target="embedding")
    (told,) = [note for note in found.warnings if "attention sinks" in note]
    assert ("outliers=mask" in told) == treatable
    assert ("outliers" in found.provenance["options"]) == treatable
