"""What captum computes, against naive forms; seeds, passes, progress and refusals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import visattn
from tests import zoo
from tests.methods import captum_oracle as oracle
from tests.methods.captum_oracle import LinearModel, Rectified
from visattn.errors import UnsupportedMethodError
from visattn.images import Size
from visattn.methods import create_method, get_method
from visattn.methods.seeding import generator, seeded
from visattn.methods.superpixels import LinearFit, Superpixels

CHEAP: dict[str, dict[str, Any]] = {
    "saliency": {},
    "input_x_gradient": {},
    "integrated_gradients": {"steps": 5},
    "smoothgrad": {"samples": 5, "chunk": 3},
    "gradient_shap": {"samples": 5, "chunk": 3},
    "occlusion": {"window": 8, "chunk": 4},
    "guided_gradcam": {},
    "kernel_shap": {"n_segments": 4, "samples": 12, "chunk": 5},
    "lime": {"n_segments": 4, "samples": 12, "chunk": 5},
}
RANDOM = ("smoothgrad", "gradient_shap", "kernel_shap", "lime")
SIZE = (8, 12)


@pytest.fixture(autouse=True)
def fixed() -> None:
    torch.manual_seed(0)


def grids(module: nn.Module, inputs: torch.Tensor, method: str, **options: Any) -> torch.Tensor:
    maps = visattn.explain(module, inputs, method=method, **{"target": 1, **options})
    return torch.from_numpy(np.stack([found.grid for found in maps])).double()


def assert_agree(found: torch.Tensor, right: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert found.shape == right.shape
    assert (found - right).abs().max() <= tolerance * right.abs().max()


def linear() -> tuple[LinearModel, torch.Tensor, torch.Tensor]:
    """A linear model, inputs (2, 3, 8, 12), and its weights for class 1 in float64."""
    module = LinearModel(SIZE)
    return module, torch.randn(2, 3, *SIZE), module.weight[1].detach().double()


def score_of(module: nn.Module, index: int = 1) -> oracle.Score:
    return lambda inputs: module(inputs)[:, index]


def segments_of(image: torch.Tensor, count: int) -> torch.Tensor:
    """Superpixels of an input whose normalisation is not known: stretched to 0..1."""
    low, high = image.min(), image.max()
    picture = ((image - low) / (high - low)).permute(1, 2, 0).double().numpy()
    return torch.from_numpy(Superpixels.of(picture, count, 10.0).labels)


def photo(inputs: torch.Tensor) -> visattn.images.Image:
    """The picture whose hash seeds an input (channel, row, col) without preprocessing."""
    return visattn.load_model(nn.Identity()).prepare_tensor(inputs).image


@pytest.mark.parametrize("channels", ["max", "mean", "sum"])
def test_saliency_of_a_linear_model_is_its_absolute_weight(channels: str) -> None:
    module, inputs, weight = linear()
    right = {"max": weight.abs().amax(0), "mean": weight.abs().mean(0), "sum": weight.abs().sum(0)}
    found = grids(module, inputs, "saliency", channels=channels)
    assert_agree(found, right[channels].expand(2, -1, -1))


def test_cells_are_sums_of_pixels_cut_at_the_far_edges() -> None:
    module, inputs, weight = linear()
    (found, _) = visattn.explain(module, inputs, method="saliency", target=1, cell=5)
    pixels = weight.abs().amax(0)
    right = [[pixels[r : r + 5, c : c + 5].sum() for c in range(0, 12, 5)] for r in range(0, 8, 5)]
    assert_agree(torch.from_numpy(found.grid.copy()).double(), torch.tensor(right).double())
    assert found.geometry.cell_box(0, 1).left == pytest.approx(5)


@pytest.mark.parametrize(
    ("name", "cell"), [("class", (16, 16)), ("swin", (8, 8)), ("resnet", (2, 2))]
)
def test_cells_are_near_eight_pixels_by_default(name: str, cell: tuple[int, int]) -> None:
    size = zoo.size_of(name)
    inputs = zoo.images(1, size)
    (found,) = visattn.explain(zoo.build(name), inputs, method="saliency", target=1)
    assert found.grid.shape == (size[0] // cell[0], size[1] // cell[1])
    (pixels,) = visattn.explain(zoo.build(name), inputs, method="saliency", target=1, cell=1)
    assert found.grid.sum() == pytest.approx(pixels.grid.sum(), rel=1e-5)


@pytest.mark.parametrize("name", ["class", "mean", "resnet"])
def test_gradients_of_small_models_literally(name: str) -> None:
    module, inputs = zoo.build(name).double(), zoo.images().double()
    slopes = [oracle.gradient(score_of(module), image) for image in inputs]
    assert_agree(
        grids(module, inputs, "saliency", cell=1),
        torch.stack([slope.abs().amax(0) for slope in slopes]),
        1e-6,
    )
    products = [(i * s).sum(0) for i, s in zip(inputs, slopes, strict=True)]
    assert_agree(grids(module, inputs, "input_x_gradient", cell=1), torch.stack(products), 1e-6)


@pytest.mark.parametrize("method", ["input_x_gradient", "integrated_gradients", "gradient_shap"])
def test_contributions_of_a_linear_model(method: str) -> None:
    module, inputs, weight = linear()
    options = {**CHEAP[method], **({"sigma": 0.0} if method == "gradient_shap" else {})}
    found = grids(module, inputs, method, **options)
    assert_agree(found, (weight * inputs).sum(dim=1))


def test_gradient_shap_compares_with_the_mean_baseline_in_expectation() -> None:
    module, inputs, weight = linear()
    samples, start = 2000, torch.tensor([0.5, -1.0, 0.2])
    found = grids(module, inputs, "gradient_shap", samples=samples, chunk=500, baseline=start)
    right = (weight * (inputs - start[:, None, None])).sum(dim=1)
    ranges = inputs.amax(dim=(1, 2, 3)) - inputs.amin(dim=(1, 2, 3))
    deviation = 0.15 * ranges[:, None, None] * weight.norm(dim=0)
    # Drawing with replacement from random baselines doubles the variance of the mean.
    error = (found - right).abs() / (deviation * (2 / samples) ** 0.5)
    assert error.max() < 5
    assert 0.3 < float(error.square().mean()) < 2


@pytest.mark.parametrize("name", ["class", "resnet"])
@pytest.mark.parametrize("baseline", ["mean", "black", "blur"])
def test_integrated_gradients_literally(name: str, baseline: str) -> None:
    module, inputs = zoo.build(name).double(), zoo.images(1).double()
    model = visattn.load_model(module, image_size=zoo.SIZE)
    mean, std = (
        torch.tensor(v)[:, None, None] for v in (model.preprocessing.mean, model.preprocessing.std)
    )
    from scipy.ndimage import gaussian_filter

    starts = {
        "mean": torch.zeros_like(inputs[0]),
        "black": (-mean / std).expand_as(inputs[0]).double(),
        "blur": torch.stack(
            [
                torch.from_numpy(gaussian_filter(p.numpy(), 48 / 20, mode="nearest"))
                for p in inputs[0]
            ]
        ),
    }
    right = oracle.integrated_gradients(score_of(module), inputs[0], starts[baseline], 5)
    (found,) = visattn.explain(
        model,
        inputs,
        method="integrated_gradients",
        target=1,
        steps=5,
        baseline=baseline,
        chunk=2,
        cell=1,
    )
    assert_agree(torch.from_numpy(found.grid.copy()).double(), right, 1e-6)
    assert baseline[:4] in found.provenance["baseline"] or baseline == "blur"
    ends = torch.stack([inputs[0], starts[baseline]])
    difference = score_of(module)(ends).detach().diff().neg()
    gap = right.sum() - difference
    assert found.provenance["completeness_gap"] == pytest.approx(float(gap), abs=1e-6)
    assert any("completeness gap" in note for note in found.warnings) == bool(
        gap.abs() > 0.05 * difference.abs()
    )


def test_integrated_gradients_of_a_relu_network_are_complete() -> None:
    module, inputs = Rectified(), torch.randn(2, 3, *SIZE)
    maps = visattn.explain(module, inputs, method="integrated_gradients", target=1, steps=300)
    for found in maps:
        assert abs(found.provenance["completeness_gap"]) < 1e-3


def noisy_gradients(module: nn.Module, image: torch.Tensor, samples: int) -> torch.Tensor:
    """Gradients (sample, channel, row, col) at the noisy copies that the image's seed gives."""
    with seeded(photo(image), 0, image.device):
        noise = torch.normal(
            0, torch.full((samples, *image.shape), float(0.15 * (image.max() - image.min())))
        )
    return torch.stack([oracle.gradient(score_of(module), image + each) for each in noise])


@pytest.mark.parametrize("variant", ["mean", "square", "vargrad"])
def test_smoothgrad_literally(variant: str) -> None:
    module, inputs = Rectified().double(), torch.randn(2, 3, 16, 24).double()
    found = grids(module, inputs, "smoothgrad", samples=6, variant=variant)
    rights, wrongs = [], []
    for image in inputs:
        slopes = noisy_gradients(module, image, 6)
        rights.append(
            {
                "mean": slopes.mean(0).abs(),
                "square": slopes.square().mean(0),
                "vargrad": slopes.var(0, correction=0),
            }[variant].amax(0)
        )
        wrongs.append(slopes.abs().mean(0).amax(0))
    assert_agree(found, torch.stack(rights), 1e-6)
    assert (torch.stack(wrongs) - found).abs().max() > 0.1 * found.max()


def test_smoothgrad_of_a_linear_model_is_its_gradient_and_does_not_vary() -> None:
    module, inputs, weight = linear()
    options = {"samples": 5, "sigma": 0.2}
    right = weight.abs().amax(0).expand(2, -1, -1)
    assert_agree(grids(module, inputs, "smoothgrad", **options), right)
    assert_agree(grids(module, inputs, "smoothgrad", variant="square", **options), right**2)
    assert grids(module, inputs, "smoothgrad", variant="vargrad", **options).max() < 1e-5


def test_no_noise_is_the_gradient() -> None:
    module, inputs = Rectified(), torch.randn(2, 3, *SIZE)
    assert_agree(
        grids(module, inputs, "smoothgrad", sigma=0.0, samples=2), grids(module, inputs, "saliency")
    )


@pytest.mark.parametrize(
    ("window", "stride"), [(4, 4), (5, 3), ((3, 5), (2, 4)), (8, 2), ((8, 12), (1, 1)), (4, None)]
)
def test_occlusion_literally(window: Any, stride: Any) -> None:
    module, inputs = Rectified().double(), torch.randn(2, 3, *SIZE).double()
    maps = visattn.explain(
        module, inputs, method="occlusion", target=1, window=window, stride=stride, chunk=3
    )
    pair = (window, window) if isinstance(window, int) else window
    step = pair if stride is None else (stride, stride) if isinstance(stride, int) else stride
    for found, image in zip(maps, inputs, strict=True):
        zero = torch.zeros_like(image)
        right = oracle.occlusion(score_of(module), image, zero, pair, step)
        spread = torch.from_numpy(found.grid.copy()).double()
        for axis in (0, 1):
            cell = int(np.gcd(pair[axis], step[axis]))
            spread = spread.repeat_interleave(cell, axis)
        assert_agree(spread[: SIZE[0], : SIZE[1]], right, 1e-6)


def test_occlusion_of_a_linear_model_is_the_sum_over_patches() -> None:
    module, inputs, weight = linear()
    found = grids(module, inputs, "occlusion", window=4)
    parts = (weight * inputs).sum(dim=1).reshape(2, 2, 4, 3, 4).sum(dim=(2, 4))
    assert_agree(found, parts)


@pytest.mark.parametrize(
    ("name", "grid", "window"),
    [("class", (3, 5), [16, 16]), ("swin", (4, 6), [16, 16]), ("resnet", (8, 14), [6, 6])],
)
def test_occlusion_covers_whole_patches_by_default(
    name: str, grid: tuple[int, int], window: list[int]
) -> None:
    inputs = zoo.images(1, zoo.size_of(name))
    (found,) = visattn.explain(zoo.build(name), inputs, method="occlusion", target=1)
    assert found.grid.shape == grid
    assert found.provenance["window"] == found.provenance["stride"] == window


def test_kernel_shap_and_lime_of_a_linear_model_are_its_contributions() -> None:
    module, inputs, weight = linear()
    contributions = (weight * inputs).sum(dim=1)
    for method, options in (("kernel_shap", {}), ("lime", {"ridge": 0.0})):
        found = grids(module, inputs, method, n_segments=6, samples=60, **options)
        for index, image in enumerate(inputs):
            segments = segments_of(image, 6)
            sums = torch.stack(
                [contributions[index][segments == s].sum() for s in range(int(segments.max()) + 1)]
            )
            assert_agree(found[index], sums[segments], 1e-4)


def test_kernel_shap_comes_near_shapley_values() -> None:
    module, image = Rectified(), torch.randn(3, 16, 24)
    segments, zero, score = segments_of(image, 6), torch.zeros_like(image), score_of(module)

    def value(chosen: Any) -> float:
        return oracle.value(score, oracle.shown(image, zero, segments, chosen))

    right = oracle.shapley(value, int(segments.max()) + 1)
    found = grids(module, image[None], "kernel_shap", n_segments=6, samples=3000, chunk=500)[0]
    assert_agree(found, right[segments], 0.05)
    total = torch.stack([found[segments == s].mean() for s in range(len(right))]).sum()
    everything = value(range(len(right))) - value(())
    assert float(total) == pytest.approx(everything, abs=1e-4 * abs(everything) + 1e-6)


@pytest.mark.parametrize(("width", "ridge"), [(0.25, 1.0), (0.5, 0.0)])
def test_lime_literally(width: float, ridge: float) -> None:
    module, image = Rectified().double(), torch.randn(3, 16, 24).double()
    segments = segments_of(image, 6)
    count = int(segments.max()) + 1
    with seeded(photo(image), 3, image.device):
        draws = torch.cat([torch.rand(1, count) < 0.5 for _ in range(39)])
    masks = torch.cat([torch.ones(1, count), draws.float()])
    right = oracle.lime(score_of(module), image, segments, masks, width, ridge)
    options = {"samples": 40, "width": width, "ridge": ridge, "seed": 3}
    found = grids(module, image[None], "lime", n_segments=6, **options)[0]
    assert_agree(found, right[segments])


def test_a_poor_linear_fit_is_told() -> None:
    class Parity(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            left, right = inputs[..., :6].mean(dim=(1, 2, 3)), inputs[..., 6:].mean(dim=(1, 2, 3))
            return torch.stack([left, 100 * (left - 0.5) * (right - 0.5)], dim=1)

    inputs = torch.ones(1, 3, *SIZE)
    inputs[:, 0, 0, 0] = 1.001
    options = {"n_segments": 6, "samples": 200, "width": 10.0}
    (found,) = visattn.explain(Parity(), inputs, method="lime", target=1, **options)
    assert found.provenance["explained"] < 0.5
    assert any("explains only" in note for note in found.warnings)
    (sure,) = visattn.explain(Parity(), inputs, method="lime", target=0, **options)
    assert sure.provenance["explained"] > 0.99
    assert not any("explains only" in note for note in sure.warnings)


def test_linear_fit_is_weighted_ridge_regression() -> None:
    masks, scores, weights = torch.rand(20, 4).round(), torch.randn(20), torch.rand(20)
    fit = LinearFit(penalty=0.7)
    fit.fit([(masks[:12], scores[:12], weights[:12]), (masks[12:], scores[12:], weights[12:])])
    design = torch.cat([torch.ones(20, 1), masks], dim=1).double()
    penalty = 0.7 * torch.eye(5).double()
    penalty[0, 0] = 0
    left = design.T @ (weights.double()[:, None] * design) + penalty
    right = torch.linalg.solve(left, design.T @ (weights.double() * scores.double()))
    assert_agree(fit.representation(), right[1:], 1e-10)


def test_superpixels_follow_the_photo(cat: np.ndarray) -> None:
    found = Superpixels.of(cat / 255.0, 50, 10.0)
    assert found.compactness == 10
    assert 25 <= found.count <= 75
    assert found.labels.shape == cat.shape[:2]
    assert sorted(np.unique(found.labels)) == list(range(found.count))
    colours = [cat[found.labels == s].std(axis=0).mean() for s in range(found.count)]
    assert np.mean(colours) < 0.6 * cat.std(axis=(0, 1)).mean()


def test_superpixels_of_noise_are_made_compact() -> None:
    picture = np.random.default_rng(0).random((64, 96, 3))
    found = Superpixels.of(picture, 20, 10.0)
    assert found.compactness > 10
    assert found.count >= 10


def test_superpixels_of_a_photo_come_from_its_colours(cat: np.ndarray) -> None:
    """The map is constant on the superpixels of the input, shown as RGB."""
    model = visattn.load_model(zoo.build("class"), image_size=zoo.SIZE)
    (found,) = visattn.explain(model, cat, method="lime", target=1, n_segments=12, samples=40)
    inputs = model.prepare(visattn.images.load_image(cat)).tensor
    parts = Superpixels.of(model.preprocessing.photograph(inputs).pixels / 255.0, 12, 10.0)
    assert found.provenance["superpixels"] == parts.count
    for part in range(parts.count):
        assert np.ptp(found.grid[parts.labels == part]) < 1e-6
    (coarse,) = visattn.explain(
        model, cat, method="lime", target=1, n_segments=12, samples=40, cell=16
    )
    means = found.grid.reshape(3, 16, 5, 16).mean(axis=(1, 3))
    np.testing.assert_allclose(coarse.grid, means, atol=1e-6)


@pytest.mark.parametrize("way", ["module", "behind"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("inplace", [False, True])
def test_guided_gradcam_is_the_product_of_its_parts(way: str, shared: bool, inplace: bool) -> None:
    module, inputs = Rectified(way, shared, inplace).double(), torch.randn(3, 3, 16, 24).double()
    index = int(module(inputs).mean(dim=0).argmax())
    rights = torch.stack([oracle.guided_gradcam(module, image, index) for image in inputs])
    assert rights.any()
    assert_agree(grids(module, inputs, "guided_gradcam", target=index), rights, 1e-6)


def test_guided_gradcam_of_a_named_layer_reads_its_output() -> None:
    module, inputs = Rectified(), torch.randn(2, 3, 16, 24)
    one = grids(module, inputs, "guided_gradcam", layer="act2")
    assert_agree(one, grids(module, inputs, "guided_gradcam"))
    (found, _) = visattn.explain(module, inputs, method="guided_gradcam", target=1, layer="act1")
    assert found.provenance["layer"] == "output of act1"
    assert not np.allclose(found.grid, one[0])


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Rectified("function"), "relu as a function"),
        (Rectified("around"), "shortcut around the ReLU"),
        (Rectified("around", inplace=True), "outputs change under captum's hooks"),
        (Rectified("gate"), "Sigmoid, products of activations"),
        (zoo.build("class"), r"GELU \(blocks.0.mlp.act and 2 more\)"),
        (zoo.build("efficientnet"), r"SiLU \(bn1.act and"),
    ],
)
def test_networks_that_captum_would_not_guide_are_refused(module: nn.Module, words: str) -> None:
    with pytest.raises(UnsupportedMethodError, match=f"{words}.*use gradcam"):
        grids(module, zoo.images(1), "guided_gradcam")
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


@pytest.mark.parametrize(
    ("layer", "words"), [("nowhere", "no module 'nowhere'"), ("fc", "not a feature map")]
)
def test_guided_gradcam_needs_a_feature_map(layer: str, words: str) -> None:
    with pytest.raises(UnsupportedMethodError, match=words):
        grids(Rectified(), torch.randn(1, 3, 16, 24), "guided_gradcam", layer=layer)


def test_guided_gradcam_without_any_relu_is_refused() -> None:
    with pytest.raises(UnsupportedMethodError, match=r"no torch\.nn\.ReLU module"):
        grids(LinearModel(), torch.randn(1, 3, *SIZE), "guided_gradcam")


@pytest.mark.parametrize("method", CHEAP)
def test_the_model_and_the_random_states_are_as_they_were(method: str) -> None:
    module, inputs = Rectified().train(), torch.randn(2, 3, 16, 24)
    module.fc.weight.requires_grad_(False)
    module.fc.bias.grad = torch.ones(3)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    right = torch.rand(1), np.random.random()  # noqa: NPY002
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002
    with torch.inference_mode():
        first = grids(module, inputs, method, **CHEAP[method])
    assert (torch.rand(1), np.random.random()) == right  # noqa: NPY002
    assert all(part.training for part in module.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    flags = {name: weight.requires_grad for name, weight in module.named_parameters()}
    assert [name for name, flag in flags.items() if not flag] == ["fc.weight"]
    assert module.fc.bias.grad.eq(1).all()
    assert module.first.weight.grad is None
    assert torch.equal(first, grids(module, inputs, method, **CHEAP[method]))


@pytest.mark.parametrize("method", ["guided_gradcam", "smoothgrad"])
def test_everything_is_restored_after_an_error(method: str) -> None:
    module, inputs = Rectified(), torch.randn(1, 3, 16, 24)
    calls: list[int] = []

    def failing(outputs: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        if len(calls) > 2:
            raise UnsupportedMethodError("third")
        return outputs[:, 0]

    state = torch.get_rng_state()
    with pytest.raises(UnsupportedMethodError, match="third"):
        grids(
            module,
            inputs,
            method,
            target=failing,
            **({"chunk": 1} if method != "guided_gradcam" else {}),
        )
    assert torch.equal(state, torch.get_rng_state())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


@pytest.mark.parametrize("method", RANDOM)
def test_random_numbers_belong_to_the_image_and_the_seed(method: str) -> None:
    module, inputs = Rectified().double(), torch.randn(3, 3, 16, 24).double()
    together = grids(module, inputs, method, **CHEAP[method])
    alone = grids(module, inputs[2:], method, **CHEAP[method])
    assert_agree(together[2:], alone, 1e-6)
    other = grids(module, inputs[2:], method, seed=1, **CHEAP[method])
    assert (other - alone).abs().max() > 1e-3 * alone.abs().max()


def test_seeding_is_that_of_the_generator() -> None:
    image = photo(torch.rand(3, *SIZE))
    with seeded(image, 4, torch.device("cpu")):
        drawn = torch.rand(3)
    assert torch.equal(drawn, torch.rand(3, generator=generator(image, 4)))


@contextmanager
def counted(module: nn.Module) -> Iterator[dict[str, int]]:
    """Count the inputs that go forward through a module and whose gradients come back."""
    seen = {"forward": 0, "backward": 0}

    def back(gradient: torch.Tensor) -> None:
        seen["backward"] += len(gradient)

    def count(part: nn.Module, inputs: Any, outputs: torch.Tensor) -> None:
        seen["forward"] += len(outputs)
        if outputs.requires_grad:
            outputs.register_hook(back)

    handle = module.register_forward_hook(count)
    try:
        yield seen
    finally:
        handle.remove()


@pytest.mark.parametrize("method", CHEAP)
def test_passes_are_those_declared(method: str) -> None:
    """Of one image, and per image of a batch; the driver's gradient of nothing is no pass."""
    module = Rectified()
    model = visattn.load_model(module)
    declared = create_method(method, **CHEAP[method]).passes(model.adapter, Size(16, 24))
    for batch in (1, 2):
        with counted(module) as seen:
            grids(module, torch.randn(batch, 3, 16, 24), method, **CHEAP[method])
        # The check of guided_gradcam needs one image of a batch only.
        checked = batch - 1 if method == "guided_gradcam" else 0
        assert seen["forward"] + checked == batch * declared.forward
        assert seen["backward"] == batch * declared.backward
    assert not declared.at_most


@pytest.mark.parametrize(
    ("method", "total"),
    [
        ("integrated_gradients", 7), ("smoothgrad", 5), ("gradient_shap", 5), ("occlusion", 7),
        ("kernel_shap", 12), ("lime", 12),
    ],
)  # fmt: skip
def test_progress_tells_the_total_first(method: str, total: int) -> None:
    seen: list[tuple[str, int, int]] = []
    visattn.explain(
        Rectified(),
        torch.randn(2, 3, 16, 24),
        method=method,
        target=1,
        progress=lambda *step: seen.append(step),
        **CHEAP[method],
    )
    done = [step[1] for step in seen]
    assert {step[2] for step in seen} == {2 * total}
    assert done[0] == 0
    assert done[-1] == 2 * total
    assert done == sorted(done)


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient", "guided_gradcam"])
def test_short_work_reports_nothing(method: str) -> None:
    seen: list[Any] = []
    inputs = torch.randn(1, 3, 16, 24)
    visattn.explain(
        Rectified(), inputs, method=method, target=1, progress=lambda *step: seen.append(step)
    )
    assert not seen


@pytest.mark.parametrize(
    ("method", "options", "words"),
    [
        ("saliency", {"channels": "median"}, "channels='median'"),
        ("saliency", {"cell": 0}, "cell=0"),
        ("saliency", {"cell": 1.5}, "cell=1.5"),
        ("kernel_shap", {"cell": 0}, "cell=0"),
        ("integrated_gradients", {"steps": 0}, "steps=0"),
        ("integrated_gradients", {"baseline": "blak"}, "Did you mean 'black'"),
        ("integrated_gradients", {"baseline": 0.5}, "baseline=0.5"),
        ("integrated_gradients", {"baseline": np.zeros((3, 2, 2))}, r"\(3, 2, 2\)"),
        ("smoothgrad", {"variant": "median"}, "variant='median'"),
        ("smoothgrad", {"sigma": -0.1}, "sigma=-0.1"),
        ("gradient_shap", {"samples": 0}, "samples=0"),
        ("occlusion", {"window": 0}, "window=0"),
        ("occlusion", {"window": 2.5}, "window=2.5"),
        ("occlusion", {"window": 17}, "window=17 is larger than the input of 16 x 24"),
        ("occlusion", {"window": 4, "stride": 5}, "stride=5 is larger than the window of 4 x 4"),
        ("kernel_shap", {"n_segments": 1}, "n_segments=1"),
        ("kernel_shap", {"samples": 3, "n_segments": 6}, r"samples=3 cannot fit \d superpixels"),
        ("kernel_shap", {"compactness": 0.0}, "compactness=0.0"),
        ("lime", {"width": 0.0}, "width=0.0"),
        ("lime", {"ridge": -1.0}, "ridge=-1.0"),
    ],
)
def test_wrong_options_are_told(method: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedMethodError, match=words):
        grids(Rectified(), torch.randn(1, 3, 16, 24), method, **options)


def test_black_needs_a_known_preprocessing() -> None:
    with pytest.raises(UnsupportedMethodError, match="what black is"):
        grids(LinearModel(), torch.randn(1, 3, *SIZE), "occlusion", baseline="black", window=4)


def test_half_precision_is_summed_in_float32() -> None:
    module, inputs, _ = linear()
    half, rounded = module.half(), inputs.half()
    weight = half.weight[1].detach().double()
    found = grids(half, rounded, "integrated_gradients", steps=3)
    assert_agree(found, (weight * rounded.double()).sum(dim=1))


@pytest.mark.parametrize("method", CHEAP)
def test_docstrings_name_captum(method: str) -> None:
    assert "captum" in (get_method(method).__doc__ or "")
