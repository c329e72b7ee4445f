"""CP-LRP, AttnLRP, LibraGrad and ResLRP against explicit models, and what they refuse."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import visattn
from tests import zoo
from tests.propagation.explicit import Explicit, relevance_of_tokens
from visattn.errors import UnsupportedMethodError
from visattn.methods import get_method
from visattn.models import Model
from visattn.propagation import LIBRA, RESLRP

RULES = {
    "cp_lrp": ("value", "detached", "plain"),
    "attnlrp": ("half", "detached", "gate"),
    "libragrad": ("value", "detached", "gate"),
}
PLAIN_VITS = ["class", "registers", "mean", "registers_mean_all", "headless"]
LRP = [*RULES, "reslrp"]
EPSILON: dict[str, dict[str, Any]] = {
    "attnlrp": {"gamma_linear": 0.0, "gamma_convolution": 0.0},
    "reslrp": {"gamma_linear": 0.0, "gamma_convolution": 0.0},
}


def biased(name: str, dtype: torch.dtype) -> nn.Module:
    module = zoo.build(name)
    for weight_name, weight in module.named_parameters():
        if weight_name.endswith("bias") and weight.ndim == 1:
            nn.init.normal_(weight, 0, 0.3)
    return module.to(dtype)


def top(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.flatten(1).amax(dim=1)


def explained(module: Any, method: str, inputs: Any = None, **options: Any) -> list[torch.Tensor]:
    model = module if isinstance(module, Model) else visattn.load_model(module)
    inputs = zoo.images(2) if inputs is None else inputs
    maps = visattn.explain(
        model, inputs.to(model.dtype), method=method, target=options.pop("target", top), **options
    )
    return [torch.from_numpy(m.grid.copy()).double() for m in maps]


def assert_agree(found: torch.Tensor, right: torch.Tensor, tolerance: float = 1e-5) -> None:
    assert (found.flatten() - right.flatten()).abs().max() <= tolerance * right.abs().max()


def on_patches(pixels: torch.Tensor, side: int = 16) -> torch.Tensor:
    channels, rows, cols = pixels.shape
    parts = pixels.reshape(channels, rows // side, side, cols // side, side)
    return parts.sum(dim=(0, 2, 4))


class Dense:
    """What `Explicit` says of one image: entries of blocks, constants, and all gradients."""

    def __init__(
        self, module: nn.Module, image: torch.Tensor, rules: tuple[str, str, str], **gammas: float
    ) -> None:
        self.model = Explicit(module.double(), *rules, **gammas)
        self.pixels = image.double().requires_grad_()
        self.entries, outputs = self.model.run(self.pixels)
        names = [(name, c) for name, found in self.model.constants.items() for c in found]
        leaves = [self.pixels, *self.entries, *(constant for _, constant in names)]
        found = torch.autograd.grad(outputs.max(), leaves, allow_unused=True)
        products = [
            torch.zeros_like(leaf) if g is None else (leaf * g).detach()
            for leaf, g in zip(leaves, found, strict=True)
        ]
        self.of_pixels = products[0]
        self.of_entries = [product.sum(1) for product in products[1 : 1 + len(self.entries)]]
        rest = products[1 + len(self.entries) :]
        self.of_constants = [(n, p.sum(1)) for (n, _), p in zip(names, rest, strict=True)]
        self.prefix = module.num_prefix_tokens
        self.score = outputs.max().detach()

    def readout(self, name: str, layers: tuple[int, ...] = (0, 1, 2)) -> torch.Tensor:
        if name == "pixels":
            return on_patches(self.of_pixels)
        if name == "tokens":
            return self.of_entries[0][self.prefix :]
        row = torch.stack([self.of_entries[layer] for layer in layers]).sum(0)
        if name == "fullgrad":
            blocks = {f"blocks.{layer}" for layer in layers}
            row = row + torch.stack([p for n, p in self.of_constants if n in blocks]).sum(0)
        return row[self.prefix :]


@pytest.mark.parametrize("name", PLAIN_VITS)
@pytest.mark.parametrize("method", RULES)
def test_every_readout_is_that_of_the_explicit_model(name: str, method: str) -> None:
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-7)):
        dense = Dense(biased(name, dtype), zoo.images(2)[1], RULES[method])
        for readout in ("pixels", "tokens", "layers", "fullgrad"):
            options = {"readout": readout, **EPSILON.get(method, {})}
            found = explained(biased(name, dtype), method, **options)[1]
            assert_agree(found, dense.readout(readout), tolerance)


@pytest.mark.parametrize("name", ["class", "registers", "mean"])
@pytest.mark.parametrize("method", ["cp_lrp", "attnlrp"])
def test_the_gamma_rule_is_that_of_the_explicit_model(name: str, method: str) -> None:
    gammas = {"gamma": 0.3, "gamma_patches": 0.7}
    dense = Dense(biased(name, torch.float64), zoo.images(2)[1], RULES[method], **gammas)
    options = {"gamma_linear": 0.3, "gamma_convolution": 0.7}
    for readout in ("pixels", "layers", "fullgrad"):
        found = explained(biased(name, torch.float64), method, readout=readout, **options)[1]
        assert_agree(found, dense.readout(readout), 1e-7)


def test_libragrad_reads_fullgrad_by_default_and_the_others_pixels() -> None:
    assert get_method("libragrad")().rules != LIBRA
    for method in ("cp_lrp", "attnlrp", "reslrp"):
        assert get_method(method)().options()["readout"] == "pixels"
    assert replace(get_method("reslrp")().rules, linear=0.0, convolution=0.0) == RESLRP


@pytest.mark.parametrize("readout", ["layers", "fullgrad"])
def test_layers_choose_blocks(readout: str) -> None:
    dense = Dense(biased("registers", torch.float32), zoo.images(2)[0], RULES["libragrad"])
    module = biased("registers", torch.float32)
    for layers, chosen in ((-1, (2,)), ([0, 2], (0, 2)), (slice(1, None), (1, 2))):
        found = explained(module, "libragrad", readout=readout, layers=layers)[0]
        assert_agree(found, dense.readout(readout, chosen))


def test_libragrad_adds_up_to_the_score_and_says_by_how_much() -> None:
    dense = Dense(biased("class", torch.float64), zoo.images(2)[0], RULES["libragrad"])
    total = dense.of_pixels.sum() + sum(part.sum() for _, part in dense.of_constants)
    assert abs(float(total - dense.score)) < 1e-10
    model = visattn.load_model(biased("class", torch.float64))
    (found, _) = visattn.explain(model, zoo.images(2).double(), method="libragrad", target=top)
    assert abs(found.provenance["completeness_gap"]) < 1e-10
    assert not found.warnings
    options = {"readout": "fullgrad", **EPSILON["attnlrp"]}
    (other, _) = visattn.explain(
        model, zoo.images(2).double(), method="attnlrp", target=top, **options
    )
    assert abs(other.provenance["completeness_gap"]) > 1e-3


def test_a_model_that_the_rules_do_not_make_linear_is_told() -> None:
    module = zoo.vit(act_layer=nn.Sigmoid).eval()
    (found, _) = visattn.explain(module, zoo.images(2), method="libragrad", target=top)
    assert any("miss the score by" in note for note in found.warnings)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 5.0])
@pytest.mark.parametrize("name", PLAIN_VITS)
def test_reslrp_is_relevance_split_at_every_residual_sum(name: str, gamma: float) -> None:
    module = biased(name, torch.float64)
    for linear in (0.0, 0.5):
        model = Explicit(module, *RULES["attnlrp"], gamma=linear)
        right = relevance_of_tokens(model, zoo.images(2)[0].double(), gamma)
        options = {"readout": "tokens", "gamma": gamma, "gamma_linear": linear}
        found = explained(module, "reslrp", **options)[0]
        assert_agree(found, right.sum(1)[module.num_prefix_tokens :], 1e-6)


def test_reslrp_without_gamma_is_attnlrp() -> None:
    module = biased("registers", torch.float64)
    for readout in ("pixels", "layers"):
        one, two = (
            explained(module, method, readout=readout, **options)[0]
            for method, options in (("reslrp", {"gamma": 0.0}), ("attnlrp", {}))
        )
        assert torch.equal(one, two)
    assert not torch.equal(explained(module, "reslrp")[0], explained(module, "attnlrp")[0])


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("attnlrp", {"attention_rule": "value"}),
        ("attnlrp", {"gamma_linear": 0.1}),
        ("attnlrp", {"gamma_convolution": 0.1}),
        ("cp_lrp", {"activation": "gate"}),
        ("cp_lrp", {"gamma_linear": float("inf")}),
        ("reslrp", {"gamma": 0.5}),
        ("reslrp", {"gamma_linear": 0.1}),
        ("reslrp", {"shift": 3}),
        ("libragrad", {"readout": "layers"}),
    ],
)
def test_every_option_matters(method: str, options: dict[str, Any]) -> None:
    module = biased("class", torch.float32)
    plain, changed = explained(module, method)[0], explained(module, method, **options)[0]
    assert changed.isfinite().all()
    assert (plain - changed).abs().max() > 1e-3 * plain.abs().max()


def test_value_path_with_gates_is_libra_on_pixels() -> None:
    module = biased("class", torch.float64)
    right = explained(module, "libragrad", readout="pixels")[0]
    assert torch.equal(explained(module, "cp_lrp", activation="gate")[0], right)
    options = {"attention_rule": "value", **EPSILON["attnlrp"]}
    assert torch.equal(explained(module, "attnlrp", **options)[0], right)


def test_a_cell_of_pixels_keeps_the_total() -> None:
    module = biased("class", torch.float64)
    grids = [explained(module, "cp_lrp", cell=cell)[0] for cell in (1, 8, 16)]
    assert [tuple(grid.shape) for grid in grids] == [(48, 80), (6, 10), (3, 5)]
    for grid in grids[1:]:
        assert abs(float(grid.sum() - grids[0].sum())) < 1e-4 * float(grids[0].abs().sum())


def test_shifted_images_are_explained_and_moved_back() -> None:
    """A linear model is the same wherever the image stands, so that only the edge is lost."""

    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return torch.einsum("bcyx,c->b", inputs, self.weight)[:, None]

    inputs = torch.randn(2, 3, 12, 16)
    found = visattn.explain(
        Sum(), inputs, method="reslrp", shift=2, cell=1, target=lambda outputs: outputs[:, 0]
    )
    for item, image in zip(found, inputs, strict=True):
        inner = item.grid[2:-2, 2:-2]
        np.testing.assert_allclose(inner, image.sum(0).numpy()[2:-2, 2:-2], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["swin", "swin_v2", "efficientnet", "resnet", "torchvision_swin"])
@pytest.mark.parametrize("method", LRP)
def test_pixels_are_read_on_every_model_and_tokens_refused_with_the_way_out(
    name: str, method: str
) -> None:
    model = visattn.load_model(zoo.build(name), image_size=zoo.size_of(name))
    inputs = zoo.images(1, zoo.size_of(name))
    (found,) = explained(model, method, inputs, readout="pixels")
    assert found.isfinite().all()
    assert found.any()
    assert model.input_size is not None
    for readout in ("tokens", "layers", "fullgrad"):
        asked = get_method(method).create(method, {"readout": readout})
        reason = asked.refusal(model.adapter, model.input_size)
        assert reason is not None
        assert reason.endswith("(readout='pixels' applies to every model)")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"readout": "pixel"}, "readout='pixel'"),
        ({"cell": 0}, "cell=0"),
        ({"cell": 8, "readout": "tokens"}, "needs readout='pixels'"),
        ({"layers": -1}, "needs readout='layers' or 'fullgrad'"),
        ({"layers": 7, "readout": "layers"}, "layers=7"),
        ({"gamma": -1.0}, "gamma=-1.0"),
        ({"gamma_linear": float("nan")}, "gamma_linear=nan"),
        ({"shift": -2}, "shift=-2"),
        ({"shift": 2, "readout": "tokens"}, "needs readout='pixels'"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedMethodError, match=words):
        explained(zoo.build("class"), "reslrp", **options)


def test_gradient_methods_take_the_rules_of_libra() -> None:
    module = biased("class", torch.float32)
    plain, libra = (explained(module, "gradcam", backward=name)[0] for name in ("plain", "libra"))
    assert (plain - libra).abs().max() > 1e-3 * plain.abs().max()


@pytest.mark.parametrize("method", ["attnlrp", "libragrad"])
def test_trained_dinov2_agrees_with_the_explicit_model(dinov2: Model, method: str) -> None:
    module, inputs = copy.deepcopy(dinov2.module).double(), zoo.images(1, (140, 196))
    model = Explicit(module, *RULES[method])
    entries, outputs = model.run(inputs[0].double())
    found = torch.autograd.grad(outputs[3], entries)
    right = torch.stack([(e * g).sum(1) for e, g in zip(entries, found, strict=True)]).sum(0)
    (grid,) = explained(
        dinov2,
        method,
        inputs,
        readout="layers",
        target=lambda outputs: outputs[:, 3],
        **EPSILON.get(method, {}),
    )
    assert_agree(grid, right[1:].detach())


def test_trained_dinov2_agrees_with_relevance_split_at_residual_sums(dinov2: Model) -> None:
    module, inputs = copy.deepcopy(dinov2.module).double(), zoo.images(1, (140, 196))
    right = relevance_of_tokens(Explicit(module, *RULES["attnlrp"]), inputs[0].double(), 1.0)
    (grid,) = explained(dinov2, "reslrp", inputs, readout="tokens", **EPSILON["reslrp"])
    assert_agree(grid, right.sum(1)[1:], 1e-4)
