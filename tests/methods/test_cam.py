"""Class activation maps against literal loops, on stages of networks and on tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from skimage import data
from torch import nn
from torch.nn import functional

import visattn
from tests import zoo
from tests.methods import cam_oracle as oracle
from visattn.adapters import Site
from visattn.errors import CaptureError, TargetError, UnsupportedMethodError
from visattn.images import Size
from visattn.methods import Maps, create_method
from visattn.models import Model
from visattn.models.inputs import prepare_all
from visattn.observation import observe, record_pass
from visattn.observation.replacing import replacing
from visattn.progress import reporting
from visattn.targets import ContrastTarget

SIZE = (22, 30)
CLASS = 2
FAMILY = (*oracle.GRADIENT, "eigencam", "scorecam", "ablationcam", "finercam")
PREFIX = {"class": 1, "registers": 5, "mean": 0}


class TinyCnn(nn.Module):
    """Three convolutions, average pooling and a linear head."""

    def __init__(self, activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.conv1, self.act1 = nn.Conv2d(3, 5, 3, padding=1), activation()
        self.conv2, self.act2 = nn.Conv2d(5, 6, 3, stride=2, padding=1), activation()
        self.conv3, self.act3 = nn.Conv2d(6, 7, 3, stride=2, padding=1), activation()
        self.global_pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(7, 4)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        maps = self.act2(self.conv2(self.act1(self.conv1(inputs))))
        return self.fc(self.global_pool(self.act3(self.conv3(maps))).flatten(1))


def tiny(seed: int = 0, **changes: Any) -> TinyCnn:
    torch.manual_seed(seed)
    module = TinyCnn(**changes).eval()
    with torch.no_grad():
        for weight in module.parameters():
            weight.mul_(3)
    return module


def chosen(outputs: torch.Tensor) -> torch.Tensor:
    return outputs[:, CLASS]


def opposite(outputs: torch.Tensor) -> torch.Tensor:
    return -outputs[:, CLASS]


def raw(
    method: str, module: nn.Module, inputs: torch.Tensor, target: Any = chosen, **options: Any
) -> Maps:
    """What the method returns itself, before anything becomes float32."""
    model = visattn.load_model(module, image_size=tuple(inputs.shape[2:]))
    prepared, built = prepare_all(model, inputs), create_method(method, **options)
    passed = record_pass(
        model,
        prepared,
        target=built.explains(target),
        attention=False,
        sites=built.sites(model.adapter),
        rules=built.rules,
    )
    return built(passed.record, [item.geometry for item in prepared])


def assert_agree(found: torch.Tensor, right: np.ndarray, tolerance: float) -> None:
    assert tuple(found.shape) == right.shape
    assert np.abs(right).max() > 0
    assert np.abs(found.double().numpy() - right).max() <= tolerance * np.abs(right).max()


def tiny_parts(layer: str | None, image: torch.Tensor, module: nn.Module | None = None) -> Any:
    part, side = ("global_pool", "input") if layer is None else (layer, "output")
    values, gradient = oracle.parts(module or tiny(), image, chosen, part, side)
    return values.numpy(), gradient.numpy()


@pytest.mark.parametrize("method", oracle.GRADIENT)
@pytest.mark.parametrize("layer", [None, "act2", "act1"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_gradient_maps_of_a_network_literally(
    method: str, layer: str | None, dtype: torch.dtype, tolerance: float
) -> None:
    inputs = zoo.images(2, SIZE).to(dtype)
    found = raw(method, tiny().to(dtype), inputs, layer=layer).values
    for index in range(2):
        right = oracle.GRADIENT[method](*tiny_parts(layer, inputs[index]))
        assert_agree(found[index], right, tolerance)


def test_the_methods_differ_at_an_earlier_stage_only() -> None:
    """Behind the pooled stage the gradient is even, so that three of them are one."""
    inputs = zoo.images(1, SIZE).double()

    def maps(layer: str | None) -> dict[str, np.ndarray]:
        return {
            m: raw(m, tiny().double(), inputs, layer=layer).values[0].numpy()
            for m in oracle.GRADIENT
        }

    early, late = maps("act2"), maps(None)
    for one in early:
        for two in early:
            unlike = np.abs(early[one] / early[one].max() - early[two] / early[two].max()).max()
            assert one == two or unlike > 1e-2
    np.testing.assert_allclose(late["gradcam"], late["hirescam"], rtol=1e-9)
    np.testing.assert_allclose(late["gradcam"], late["xgradcam"], rtol=1e-9)


def test_gradcam_is_cam_on_average_pooling_and_a_linear_head() -> None:
    inputs = zoo.images(1, SIZE).double()
    module = tiny().double()
    values, _ = tiny_parts(None, inputs[0])
    cam = oracle.positive(oracle.weighted(module.fc.weight[CLASS].detach().numpy(), values))
    found = raw("gradcam", module, inputs).values[0]
    assert_agree(found * values[0].size, cam, 1e-9)


def test_what_hirescam_and_xgradcam_sum_to_before_the_clamp() -> None:
    """The map of the negative score is the part that the clamp removes, with its sign turned."""
    inputs, module = zoo.images(1, SIZE).double(), tiny().double()
    for method, layer in (("hirescam", None), ("xgradcam", "act2")):
        total = sum(
            sign * raw(method, module, inputs, target, layer=layer).values.sum()
            for sign, target in ((1, chosen), (-1, opposite))
        )
        values, gradient = tiny_parts(layer, inputs[0])
        assert float(total) == pytest.approx((values * gradient).sum(), rel=1e-9)
        if layer is None:
            y = (chosen(module(inputs)) - module.fc.bias[CLASS]).detach()
            assert float(total) == pytest.approx(float(y), rel=1e-9)


def test_small_gradients_leave_gradcam_plusplus_alone() -> None:
    """In float32 g^3 underflows, and a constant in the denominator would decide the map."""
    inputs = zoo.images(1, SIZE)

    def faint(outputs: torch.Tensor) -> torch.Tensor:
        return outputs[:, CLASS] * 1e-14

    values, gradient = tiny_parts("act2", inputs[0])
    right = oracle.gradcam_plusplus(values, gradient * 1e-14)
    found = raw("gradcam_plusplus", tiny(), inputs, faint, layer="act2").values[0]
    assert_agree(found * 1e14, right * 1e14, 1e-5)
    below = 2 * gradient**2 + values.sum(axis=(1, 2), keepdims=True) * gradient**3 + 1e-6
    weights = (gradient**2 / below * np.maximum(gradient, 0)).sum(axis=(1, 2))
    wrong = oracle.positive(oracle.weighted(weights, values))
    unscaled = oracle.gradcam_plusplus(values, gradient)
    assert np.abs(wrong - unscaled).max() > 1e-4 * unscaled.max()


def test_signed_activations_are_told_where_a_formula_divides_by_their_sum() -> None:
    module = tiny(activation=nn.Tanh).double()
    inputs = zoo.images(1, SIZE).double()
    with torch.no_grad():
        module.conv2.bias.sub_(0.5)
        module.fc.weight.mul_(20)
    values, gradient = tiny_parts("act2", inputs[0], module)
    for method in ("gradcam_plusplus", "xgradcam"):
        found = raw(method, module, inputs, layer="act2")
        assert_agree(found.values[0], oracle.GRADIENT[method](values, gradient), 1e-8)
    turned = (2 + gradient * values.sum(axis=(1, 2), keepdims=True) <= 0) & (gradient > 0)
    (notes,) = raw("gradcam_plusplus", module, inputs, layer="act2").warnings
    assert turned.any()
    assert f"{turned.sum() / (gradient > 0).sum():.2%}" in notes[0]


def test_xgradcam_of_channels_whose_activations_cancel_is_finite_and_told() -> None:
    method, values = create_method("xgradcam"), torch.zeros(1, 3, 2, 2)
    values[0, 0] = torch.tensor([[1.0, -1.0], [2.0, -2.0]])
    values[0, 1] = 1.0
    found = method.combine(values, torch.ones_like(values))
    assert torch.isfinite(found).all()
    assert "33.3% of the channels" in method.notes(values, values)[0][0]
    assert not method.notes(values.abs(), values)[0]


@pytest.mark.parametrize(("layer", "side"), [("act3", "output"), ("act1", "output")])
def test_eigencam_is_the_first_component(layer: str, side: str) -> None:
    """With fewer channels than positions, and of a wide matrix with more."""
    inputs = zoo.images(2, SIZE).double()
    found = raw("eigencam", tiny().double(), inputs, layer=layer)
    for index in range(2):
        right = oracle.eigencam(tiny_parts(layer, inputs[index])[0])
        right = right if right.max() >= -right.min() else -right
        assert_agree(found.values[index], right, 1e-9)
        assert found.values[index].max() >= -found.values[index].min()
        assert 0 < found.measured[index]["explained_variance"] <= 1


def test_eigencam_of_tokens_and_of_rank_one() -> None:
    inputs = zoo.images(1).double()
    values, _ = tokens("class", inputs[0])
    right = oracle.eigencam(values)
    found = raw("eigencam", zoo.build("class").double(), inputs).values[0]
    assert_agree(found, right if right.max() >= -right.min() else -right, 1e-9)

    from visattn.methods.eigencam import first_component

    spatial, channels = torch.randn(20, dtype=torch.float64), torch.randn(6, dtype=torch.float64)
    for rows, cols in ((spatial, channels), (channels, spatial)):
        centred = rows - rows.mean()
        component, share = first_component(torch.outer(centred, cols)[None])
        assert share.item() == pytest.approx(1)
        size = centred * cols.norm()
        apart = min((component[0] - size).abs().max(), (component[0] + size).abs().max())
        assert apart < 1e-9 * size.abs().max()
    assert not first_component(torch.zeros(1, 4, 3))[0].any()


@pytest.mark.parametrize("layer", [None, "act2"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_scorecam_is_one_pass_per_channel(
    layer: str | None, dtype: torch.dtype, tolerance: float
) -> None:
    inputs = zoo.images(2, SIZE).to(dtype)
    for index, found in enumerate(raw("scorecam", tiny().to(dtype), inputs, layer=layer).values):
        values, _ = tiny_parts(layer, inputs[index])
        cell = tuple(extent / cells for extent, cells in zip(SIZE, values.shape[1:], strict=True))
        right = oracle.scorecam(tiny(), inputs[index], chosen, values, cell)
        assert_agree(found, right, tolerance)


def test_scorecam_lights_nothing_through_a_constant_channel() -> None:
    module, inputs = tiny().double(), zoo.images(1, SIZE).double()
    with torch.no_grad():
        module.conv3.weight[:2] = 0
        module.conv3.bias[:2] = torch.tensor([-1.0, 2.0])  # one dead, one the same everywhere
    found = raw("scorecam", module, inputs).values[0]
    values, _ = tiny_parts(None, inputs[0], module)
    cell = tuple(extent / cells for extent, cells in zip(SIZE, values.shape[1:], strict=True))
    assert torch.isfinite(found).all()
    assert_agree(found, oracle.scorecam(module, inputs[0], chosen, values, cell), 1e-9)


def test_scorecam_says_where_its_weights_are_even() -> None:
    def faint(outputs: torch.Tensor) -> torch.Tensor:
        return outputs[:, CLASS] * 1e-6

    inputs = zoo.images(1, SIZE)
    (notes,) = raw("scorecam", tiny(), inputs, faint).warnings
    assert "nearly the same weight" in notes[0]

    def loud(outputs: torch.Tensor) -> torch.Tensor:
        return outputs[:, CLASS] * 1e3

    assert not raw("scorecam", tiny(), inputs, loud).warnings[0]


@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
def test_chunks_do_not_matter(method: str) -> None:
    inputs = zoo.images(2, SIZE).double()
    once, *others = (
        raw(method, tiny().double(), inputs, layer="act2", chunk=chunk).values
        for chunk in (100, 1, 2, 5)
    )
    for other in others:
        assert_agree(other, once.numpy(), 1e-9)


def zero_channel(activation: torch.Tensor, channel: int) -> None:
    activation[:, channel] = 0


@pytest.mark.parametrize("layer", [None, "act2", "act1"])
@pytest.mark.parametrize("target", [chosen, opposite])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
def test_ablationcam_zeroes_one_channel_at_a_time(
    layer: str | None, target: Any, dtype: torch.dtype, tolerance: float
) -> None:
    inputs = zoo.images(2, SIZE).to(dtype)
    part, side = ("global_pool", "input") if layer is None else (layer, "output")
    found = raw("ablationcam", tiny().to(dtype), inputs, target, layer=layer).values
    for index in range(2):
        values, _ = tiny_parts(layer, inputs[index])
        weights = oracle.ablationcam_weights(
            tiny(), inputs[index], target, part, zero_channel, len(values), side
        )
        assert_agree(found[index], oracle.positive(oracle.weighted(weights, values)), tolerance)


def test_ablationcam_on_a_linear_head_is_the_contribution_of_a_channel() -> None:
    """``w_c = W_yc mean_p X_c / |y|``, for a positive and for a negative score."""
    module, inputs = tiny().double(), zoo.images(1, SIZE).double()
    values, _ = tiny_parts(None, inputs[0])
    scores = module(inputs)[0].tolist()
    assert min(scores) < 0 < max(scores)
    for index in (int(np.argmin(scores)), int(np.argmax(scores))):
        row = module.fc.weight[index].detach().numpy()
        weights = row * values.mean(axis=(1, 2)) / abs(scores[index])
        found = raw("ablationcam", module, inputs, index).values[0]
        assert_agree(found, oracle.positive(oracle.weighted(weights, values)), 1e-9)


class FixedBatch(TinyCnn):
    """Remembers the batch size before the layer, as many models do, and needs it behind."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        maps = self.act2(self.conv2(self.act1(self.conv1(inputs))))
        pooled = self.global_pool(self.act3(self.conv3(maps)))
        return self.fc(pooled.reshape(len(inputs), 7))


class MixedBatch(TinyCnn):
    """Folds the batch into the rows, by the size from before the layer, and back."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        maps = self.act2(self.conv2(self.act1(self.conv1(inputs))))
        maps = self.act3(self.conv3(maps))
        folded = maps.reshape(len(inputs), -1, *maps.shape[1:])
        mixed = folded + folded.mean(dim=1, keepdim=True) if folded.shape[1] > 1 else 2 * folded
        return self.fc(self.global_pool(mixed.flatten(0, 1)).flatten(1))


@pytest.mark.parametrize("kind", [FixedBatch, MixedBatch])
def test_ablationcam_repeats_the_whole_input_where_a_model_fixes_its_batch(
    kind: type[TinyCnn],
) -> None:
    module, inputs = tiny().double(), zoo.images(2, SIZE).double()
    other = kind().double().eval()
    other.load_state_dict(module.state_dict())
    found = raw("ablationcam", other, inputs, layer="act2").values
    for index in range(2):
        values, _ = tiny_parts("act2", inputs[index], other)
        weights = oracle.ablationcam_weights(
            other, inputs[index], chosen, "act2", zero_channel, len(values)
        )
        assert_agree(found[index], oracle.positive(oracle.weighted(weights, values)), 1e-9)


def test_parts_before_the_layer_run_once_per_chunk() -> None:
    module, seen = tiny(), {"conv1": 0, "conv3": 0}
    for name in seen:
        part = module.get_submodule(name)
        part.register_forward_hook(
            lambda _, __, output, name=name: seen.update({name: seen[name] + len(output)})
        )
    raw("ablationcam", module, zoo.images(1, SIZE), layer="act2")
    assert seen == {"conv1": 2, "conv3": 1 + 1 + 6}


def tokens(name: str, image: torch.Tensor, part: str = "blocks.2.norm1") -> Any:
    """Activation and gradient of the patches on their grid (channel, row, col)."""
    values, gradient = oracle.parts(zoo.build(name), image, chosen, part)
    return tuple(
        each[PREFIX[name] :].T.reshape(-1, *zoo.GRID).numpy() for each in (values, gradient)
    )


@pytest.mark.parametrize("name", PREFIX)
@pytest.mark.parametrize("method", FAMILY[:-1])
def test_maps_of_tokens_literally(name: str, method: str) -> None:
    inputs = zoo.images(2).double()
    module = zoo.build(name).double()
    found = raw(method, module, inputs)
    for index in range(2):
        values, gradient = tokens(name, inputs[index])
        right = right_map(method, module, inputs[index], name, values, gradient)
        assert_agree(found.values[index], right, 1e-9)
    assert found.cell == (16, 16)
    assert found.facts["layer"] == "output of blocks.2.norm1"


def right_map(
    method: str, module: nn.Module, image: torch.Tensor, name: str, values: Any, gradient: Any
) -> np.ndarray:
    if method in oracle.GRADIENT:
        return oracle.GRADIENT[method](values, gradient)
    if method == "eigencam":
        right = oracle.eigencam(values)
        return right if right.max() >= -right.min() else -right
    if method == "scorecam":
        return oracle.scorecam(module, image, chosen, values, (16, 16))

    def zero(activation: torch.Tensor, channel: int) -> None:
        activation[:, PREFIX[name] :, channel] = 0

    weights = oracle.ablationcam_weights(module, image, chosen, "blocks.2.norm1", zero, len(values))
    return oracle.positive(oracle.weighted(weights, values))


def test_ablation_keeps_the_prefix_tokens() -> None:
    inputs, module = zoo.images(1).double(), zoo.build("registers").double()
    values, _ = tokens("registers", inputs[0])

    def whole(activation: torch.Tensor, channel: int) -> None:
        activation[:, :, channel] = 0

    wrong = oracle.ablationcam_weights(
        module, inputs[0], chosen, "blocks.2.norm1", whole, len(values)
    )
    found = raw("ablationcam", module, inputs).values[0].numpy()
    assert np.abs(found - oracle.positive(oracle.weighted(wrong, values))).max() > 1e-3


@pytest.mark.parametrize("method", FAMILY[:-1])
def test_maps_of_channels_last_literally(method: str) -> None:
    """Swin hands its head (batch, row, col, channel)."""
    size = zoo.size_of("swin")
    inputs, module = zoo.images(1, size).double(), zoo.build("swin").double()
    values, gradient = (
        each.permute(2, 0, 1).numpy()
        for each in oracle.parts(module, inputs[0], chosen, "head", "input")
    )
    if method == "scorecam":
        cell = tuple(extent / cells for extent, cells in zip(size, values.shape[1:], strict=True))
        right = oracle.scorecam(module, inputs[0], chosen, values, cell)
    elif method == "ablationcam":

        def zero(activation: torch.Tensor, channel: int) -> None:
            activation[..., channel] = 0

        weights = oracle.ablationcam_weights(
            module, inputs[0], chosen, "head", zero, len(values), "input"
        )
        right = oracle.positive(oracle.weighted(weights, values))
    else:
        right = right_map(method, module, inputs[0], "", values, gradient)
    assert_agree(raw(method, module, inputs).values[0], right, 1e-9)


@pytest.mark.parametrize("layer", [None, "act2"])
def test_finercam_is_gradcam_of_the_written_out_target(layer: str | None) -> None:
    module, inputs = tiny().double(), zoo.images(2, SIZE).double()
    part, side = ("global_pool", "input") if layer is None else (layer, "output")
    found = raw("finercam", module, inputs, [0, 2], layer=layer, gamma=0.4, count=2)
    for index, wanted in enumerate((0, 2)):
        outputs = module(inputs[index : index + 1])[0].tolist()
        order = sorted(range(4), key=lambda c: abs(outputs[c] - outputs[wanted]))
        similar = order[1:3]

        def score(y: torch.Tensor, wanted: int = wanted, similar: Any = similar) -> torch.Tensor:
            return y[:, wanted] - 0.4 * (y[:, similar[0]] + y[:, similar[1]]) / 2

        values, gradient = oracle.parts(module, inputs[index], score, part, side)
        right = oracle.gradcam(values.numpy(), gradient.numpy())
        assert_agree(found.values[index], right, 1e-9)
        assert found.measured[index] == {"similar_classes": similar}


def test_finercam_without_its_contrast_is_gradcam_and_needs_classes() -> None:
    inputs = zoo.images(1)
    model = visattn.load_model(zoo.build("class"), image_size=zoo.SIZE)
    plain, same, other = (
        visattn.explain(model, inputs, method=method, target="top2", **options)[0]
        for method, options in (("gradcam", {}), ("finercam", {"gamma": 0.0}), ("finercam", {}))
    )
    np.testing.assert_array_equal(plain.grid, same.grid)
    assert np.abs(plain.grid - other.grid).max() > 1e-3 * plain.grid.max()
    assert other.target == plain.target
    with pytest.raises(TargetError, match="not one of several classes"):
        visattn.explain(model, inputs, method="finercam", target=chosen)
    with pytest.raises(UnsupportedMethodError, match="no classes that could be set against"):
        visattn.explain(zoo.build("headless"), inputs, method="finercam", target="embedding")
    layered = visattn.explain(model, inputs, method="layercam", target=ContrastTarget("top2"))
    assert np.abs(layered[0].grid - other.grid).max() > 1e-3 * other.grid.max()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layer": 3}, "dotted name"),
        ({"layer": []}, "dotted name"),
        ({"layer": ["act1", 2]}, "dotted name"),
        ({"fusion": "max"}, "'mean' or 'sum'"),
        ({"backward": "attnlrpp"}, "Did you mean 'attnlrp'"),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedMethodError, match=words):
        create_method("hirescam", **options)


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("scorecam", {"channels": 0}, "channels=0"),
        ("ablationcam", {"channels": 1.5}, "channels=1.5"),
        ("scorecam", {"chunk": 0}, "chunk=0"),
        ("finercam", {"gamma": -0.1}, "gamma=-0.1"),
        ("finercam", {"gamma": float("nan")}, "gamma=nan"),
        ("finercam", {"count": 0}, "count=0"),
        ("eigencam", {"backward": "plain"}, "no option 'backward'"),
    ],
)
def test_impossible_numbers_are_refused(method: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedMethodError, match=words):
        create_method(method, **options)


@pytest.mark.parametrize("method", [m for m in FAMILY if m not in ("eigencam", "scorecam")])
def test_patches_behind_the_last_block_of_a_class_token_are_refused(method: str) -> None:
    """Methods that do not ask what the score reads there, eigencam and scorecam, still draw."""
    with pytest.raises(
        UnsupportedMethodError, match=r"does not depend.*Use the .*blocks\.2\.norm1"
    ):
        visattn.explain(
            zoo.build("class"), zoo.images(), method=method, target=0, layer="blocks.2.norm2"
        )


def test_hirescam_before_a_normalisation_of_tokens_is_empty_by_construction() -> None:
    """Patches of the last block reach the class token through the norm only."""
    inputs = zoo.images()
    with pytest.raises(UnsupportedMethodError, match=r"zero at the output of blocks\.1: a norm"):
        visattn.explain(zoo.build("class"), inputs, method="hirescam", target=0, layer="blocks.1")
    for found in visattn.explain(zoo.build("parallel"), inputs, method="hirescam", target=0):
        assert not found.grid.any()
        assert any("a normalisation follows" in note for note in found.warnings)
        assert any("no signal" in note for note in found.warnings)
    for found in visattn.explain(zoo.build("mean"), inputs, method="hirescam", layer="blocks.1"):
        assert found.grid.any()


@pytest.mark.parametrize("name", ["cait_mean", "xcit_mean", "crossvit_fusion_blocks", "volo"])
def test_default_layers_stand_behind_the_norm(name: str) -> None:
    model = visattn.load_model(zoo.build(name), image_size=zoo.size_of(name))
    inputs = zoo.images(1, zoo.size_of(name))
    (found,) = visattn.explain(model, inputs, method="hirescam", target=0)
    assert not any("normalisation" in note for note in found.warnings)


@pytest.mark.parametrize("fusion", ["mean", "sum"])
@pytest.mark.parametrize("method", FAMILY)
def test_several_layers_add_up_raw(method: str, fusion: str) -> None:
    inputs = zoo.images(2, SIZE)
    layers = ["act3", "act1", "act2"]
    target = 0 if method == "finercam" else chosen
    found = raw(method, tiny(), inputs, target, layer=layers, fusion=fusion)
    maps = [raw(method, tiny(), inputs, target, layer=layer).values for layer in layers]
    finest = [
        functional.interpolate(m[:, None], size=SIZE, mode="bilinear")[:, 0].numpy() for m in maps
    ]
    right = sum(finest) / (3 if fusion == "mean" else 1)
    assert_agree(found.values, right, 1e-6)
    assert found.facts["layer"] == "output of act3, output of act1, output of act2"
    assert found.facts["fusion"] == f"{fusion} of raw maps"
    equalised = sum(each / np.abs(each).max() for each in finest)
    assert np.abs(equalised / equalised.max() - right / right.max()).max() > 1e-2


def test_layers_that_cover_other_parts_of_the_input_are_not_added() -> None:
    from visattn.methods.cam import fused

    maps = [Maps(torch.ones(1, 2, 2), (16.0, 16.0)), Maps(torch.ones(1, 3, 3))]
    with pytest.raises(UnsupportedMethodError, match="32 x 32, 48 x 48 pixels"):
        fused(maps, "mean", Size(48, 48))


@pytest.mark.parametrize("method", ["scorecam", "ablationcam"])
def test_channels_of_largest_energy_stand_for_all(method: str) -> None:
    inputs = zoo.images(2, SIZE).double()
    found = raw(method, tiny().double(), inputs, layer="act2", channels=2)
    every = raw(method, tiny().double(), inputs, layer="act2", channels=600)
    whole = raw(method, tiny().double(), inputs, layer="act2")
    assert torch.equal(every.values, whole.values)
    assert (found.facts["channels"], every.facts["channels"]) == ("2 of 6", "6 of 6")
    for index in range(2):
        values, _ = tiny_parts("act2", inputs[index])
        order = np.argsort(-(values**2).sum(axis=(1, 2)))
        if method == "ablationcam":
            weights = oracle.ablationcam_weights(
                tiny(), inputs[index], chosen, "act2", zero_channel, len(values)
            )
            weights[order[2:]] = 0
            right = oracle.positive(oracle.weighted(weights, values))
        else:
            right = oracle.scorecam(tiny(), inputs[index], chosen, values[order[:2]], (2, 2))
        assert_agree(found.values[index], right, 1e-9)


@pytest.mark.parametrize(
    ("method", "options", "right"),
    [
        ("scorecam", {}, "8 forward"),
        ("scorecam", {"layer": ["conv1", "conv2"]}, "12 forward"),
        ("scorecam", {"channels": 3}, "4 forward"),
        ("scorecam", {"layer": "act2"}, "forward + 1 per channel"),
        ("ablationcam", {}, "9 forward"),
        ("ablationcam", {"layer": ["conv1", "conv2"]}, "14 forward"),
        ("ablationcam", {"layer": "act2", "channels": 4}, "at most 6 forward"),
        ("eigencam", {}, "forward"),
        ("finercam", {}, "forward + backward"),
    ],
)
def test_passes_count_the_channels(method: str, options: dict[str, Any], right: str) -> None:
    module = tiny()
    module.num_features = 7
    adapter = visattn.load_model(module).adapter
    assert str(create_method(method, **options).passes(adapter, Size(*SIZE))) == right


@pytest.mark.parametrize(
    "name",
    ["resnet", "swin", "cait", "crossvit", "volo", "mvitv2", "levit", "lowformer", "cpubone",
     "torchvision_maxvit", "torchvision_vit", "transformers_dinov2", "hiera", "tnt"],
)  # fmt: skip
def test_the_number_of_channels_is_known_before_the_pass(name: str) -> None:
    model = visattn.load_model(zoo.build(name), image_size=zoo.size_of(name))
    inputs = zoo.images(1, zoo.size_of(name))
    (found,) = visattn.explain(model, inputs, method="scorecam", target=0, channels=1)
    every = int(found.provenance["channels"].split()[-1])
    assert create_method("scorecam").passes(model.adapter, model.input_size).forward == 1 + every


@pytest.mark.parametrize(("method", "total"), [("scorecam", 12), ("ablationcam", 14)])
def test_progress_is_told_with_an_estimate_first(method: str, total: int) -> None:
    told: list[tuple[str, int, int]] = []
    with reporting(lambda *report: told.append(report)):
        raw(method, tiny(), zoo.images(2, SIZE), layer="act2", chunk=4)
    assert told[0] == (method, 0, total)
    assert told[-1] == (method, total, total)
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})


def test_a_replaced_activation_lasts_for_the_block_only() -> None:
    module, inputs = tiny(), zoo.images(1, SIZE)
    site = Site("act2", "output", "channels_first")
    with torch.no_grad():
        before = module(inputs)
        with replacing(module, site, torch.zeros_like):
            assert not torch.equal(module(inputs), before)
        with pytest.raises(ZeroDivisionError), replacing(module, site, lambda _: 1 / 0):  # type: ignore[arg-type,return-value]
            module(inputs)
        missed = pytest.raises(CaptureError, match="No pass reached the output of act2")
        with missed, replacing(module, site, torch.zeros_like):
            pass
        assert torch.equal(module(inputs), before)
    assert not module.act2._forward_hooks


def test_a_rule_of_the_backward_pass_changes_the_gradient() -> None:
    inputs = zoo.images(1)
    plain, changed = (
        raw("hirescam", zoo.build("class"), inputs, backward=rules).values
        for rules in ("plain", "attnlrp")
    )
    assert (plain - changed).abs().max() > 1e-3 * plain.max()


@pytest.fixture(scope="module")
def mosaic() -> np.ndarray:
    """A cat on the left, a cup on the right."""
    return np.hstack([data.chelsea()[:300, 75:375], data.coffee()[50:350, 150:450]])


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "layercam", "xgradcam", "finercam"])
def test_peaks_of_a_trained_network_lie_on_the_class(
    method: str, lite0: Model, mosaic: np.ndarray
) -> None:
    for label, right in ((285, False), (968, True)):  # Egyptian cat, cup
        (found,) = visattn.explain(lite0, mosaic, method=method, target=label)
        _, col = np.unravel_index(found.grid.argmax(), found.grid.shape)
        assert col != 3
        assert (col > 3) == right
        assert "layer" in found.provenance


def test_the_trained_network_agrees_with_the_loops(lite0: Model, mosaic: np.ndarray) -> None:
    inputs = lite0.stack([lite0.prepare(visattn.images.load_image(mosaic))])

    def score(outputs: torch.Tensor) -> torch.Tensor:
        return outputs[:, 285]

    values, gradient = oracle.parts(lite0.module, inputs[0], score, "blocks.5")
    kept = slice(0, None, 8)  # loops over a part of the channels are enough
    values, gradient = values[kept].numpy(), gradient[kept].numpy()
    for method, right in oracle.GRADIENT.items():
        found = create_method(method).combine(
            torch.from_numpy(values)[None].float(), torch.from_numpy(gradient)[None].float()
        )
        assert_agree(found[0], right(values, gradient), 1e-5)


OVERWRITTEN = ("layer1.0.bn1", "layer2.0.se", "layer2.0.bn2", "layer2.0")


def overwriting(inplace: bool) -> Model:
    """A network whose residual sums and activations overwrite what the layer before returned."""
    from timm.models.resnet import BasicBlock, ResNet

    torch.manual_seed(0)
    module = ResNet(BasicBlock, (1, 1, 1, 1), num_classes=5, channels=(8, 12, 16, 24),
                    block_args={"attn_layer": "se"})  # fmt: skip
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)
        if hasattr(part, "inplace"):
            part.inplace = inplace
    for stage in (module.layer1, module.layer2, module.layer3, module.layer4):
        for block in stage:
            block.forward = lambda x, block=block: residual(block, x, inplace)
    return visattn.load_model(module.eval(), image_size=64)


def residual(block: Any, x: torch.Tensor, inplace: bool) -> torch.Tensor:
    inner = block.bn2(block.conv2(block.act1(block.bn1(block.conv1(x)))))
    inner = inner if block.se is None else block.se(inner)
    short = x if block.downsample is None else block.downsample(x)
    return block.act2(inner.add_(short) if inplace else inner + short)


@pytest.mark.parametrize("layer", OVERWRITTEN)
@pytest.mark.parametrize("method", ["hirescam", "gradcam", "eigencam", "ablationcam"])
def test_layers_that_are_overwritten_in_place_are_read_before(method: str, layer: str) -> None:
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    models = [overwriting(inplace) for inplace in (True, False)]
    outputs = [model.run(x) for model in models]
    assert torch.equal(*outputs)
    target = None if method == "eigencam" else 1
    (one, two), (first, second) = (
        visattn.explain(model, x, method=method, target=target, layer=layer) for model in models
    )
    np.testing.assert_allclose(one.grid, first.grid, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(two.grid, second.grid, rtol=1e-5, atol=1e-7)
    with torch.no_grad():
        assert torch.equal(models[0].module(x), outputs[0])


class Aliasing(nn.Module):
    """``relu_(norm(x))`` writes into what ``norm`` returned, which the shortcut reads again."""

    num_classes = 3

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm = nn.Conv2d(3, 6, 3, stride=4), nn.BatchNorm2d(6)
        self.body = nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(6, 6, 3, padding=1))
        self.global_pool, self.head = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x))
        return self.head(self.global_pool(self.body(x) + x).flatten(1))


@pytest.mark.parametrize("site", [Site("norm", "output", "channels_first"),
                                  Site("body", "input", "channels_first")])  # fmt: skip
def test_reading_leaves_what_layers_share_as_it_is(site: Site) -> None:
    """Outputs are the model's own, and the gradient is that of what was read."""
    module = Aliasing().eval()
    x = torch.randn(2, 3, 40, 64, generator=torch.Generator().manual_seed(1))
    plain = module(x).detach()
    seen = observe(module, x, attention=False, sites=[site], score=lambda out: out[:, 1])
    assert torch.equal(seen.outputs, plain)
    before = module.norm(module.stem(x)).detach()
    activation = seen.activations[site]
    assert torch.equal(activation.value, before)
    again = before.clone().requires_grad_()
    both = again.relu()  # what the shortcut reads, too
    rest = module.head(module.global_pool(module.body[1](both) + both).flatten(1))
    (expected,) = torch.autograd.grad(rest[:, 1].sum(), again)
    torch.testing.assert_close(activation.gradient, expected)
