"""Whole models: against explicit detached ones, completeness, and what a block leaves behind."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests import zoo
from tests.propagation.explicit import Explicit
from visattn.adapters import Site
from visattn.models.output import as_scores_tensor
from visattn.observation.batch_norm import SoundBatchNorm
from visattn.observation.observe import observe
from visattn.observation.observer import Observer
from visattn.propagation import ATTNLRP, CP_LRP, LIBRA, PLAIN, RESLRP, Entry, Rules, propagating
from visattn.propagation.gamma import Layer
from visattn.propagation.norms import Statistics

EXPLICIT = {
    "plain": (PLAIN, ("plain", "plain", "plain")),
    "cp_lrp": (CP_LRP, ("value", "detached", "plain")),
    "attnlrp": (ATTNLRP, ("half", "detached", "gate")),
    "libra": (LIBRA, ("value", "detached", "gate")),
}
PLAIN_VITS = ["class", "registers", "mean", "registers_mean_all", "headless"]


def biased(name: str) -> nn.Module:
    """A model of the zoo in float64 whose constants are not zero."""
    module = zoo.build(name).double()
    for weight_name, weight in module.named_parameters():
        if weight_name.endswith("bias") and weight.ndim == 1:
            nn.init.normal_(weight, 0, 0.3)
    return module


@pytest.mark.parametrize("name", PLAIN_VITS)
@pytest.mark.parametrize("rules", EXPLICIT)
def test_an_observed_pass_has_the_gradients_of_the_explicit_model(name: str, rules: str) -> None:
    """G and the gradients of activations, with the observer and the mode together."""
    module, image = biased(name), zoo.images(1).double()
    sites = [Site(f"blocks.{i}", "input", "tokens") for i in range(3)]
    sites.append(Site("", "input", "channels_first"))
    seen = observe(
        module,
        image,
        sites=sites,
        score=lambda outputs: outputs.flatten(1).amax(1),
        rules=EXPLICIT[rules][0],
    )
    model = Explicit(module, *EXPLICIT[rules][1])
    pixels = image[0].clone().requires_grad_()
    entries, outputs = model.run(pixels)
    assert (outputs - seen.outputs[0]).abs().max() < 1e-12
    right = torch.autograd.grad(outputs.max(), [*entries, pixels, *model.outputs])
    found = [seen.activations[site].gradient for site in sites]
    found += [operation.output_gradient for operation in seen.operations]
    for one, other in zip(found, right, strict=True):
        assert one is not None
        assert (one[0] - other).abs().max() <= 1e-11 * other.abs().max()
    matrix = right[-1] @ seen.operations[-1].value[0].transpose(1, 2)
    rows = seen.operations[-1].gradient_rows(torch.arange(matrix.shape[1]))
    assert rows is not None
    assert (rows[0] - matrix).abs().max() <= 1e-11 * matrix.abs().max()


COMPLETE = [
    *zoo.VITS, *zoo.CNNS, "swin", "swin_v2", "cait", "convit", "xcit", "caformer", "hiera", "levit",
    "efficientvit_msra", "edgenext", "csatv2", "mvitv2", "volo", "maxvit", "naflex_mean",
    "torchvision_vit", "torchvision_swin", "transformers_vit_eager", "transformers_dinov2",
    "open_clip_vit", "clip_resnet", "lambda_halonet", "gcvit", "tnt", "non_local",
]  # fmt: skip


def share_missed(name: str, rules: Rules) -> float:
    """How far relevance and constants miss the score, as a share of it."""
    module, inputs = biased(name), zoo.images(1, zoo.size_of(name)).double().requires_grad_()
    with SoundBatchNorm(), propagating(replace(rules, constants=True), module) as ledger:
        score = as_scores_tensor(module(inputs)).flatten(1).amax(1).sum()
    (gradient,) = torch.autograd.grad(score, inputs)
    assert ledger is not None
    total = (inputs.detach() * gradient).sum() + ledger.total(1)[0]
    return float(((total - score).abs() / score.abs()).detach())


@pytest.mark.parametrize("name", COMPLETE)
def test_libra_with_all_constants_adds_up_to_the_score(name: str) -> None:
    assert share_missed(name, LIBRA) < 1e-10


@pytest.mark.parametrize(
    "rules",
    [
        replace(LIBRA, activation="plain"),
        replace(LIBRA, norm="plain"),
        replace(LIBRA, attention="plain"),
        replace(LIBRA, attention="half"),
        replace(LIBRA, product="plain"),
        ATTNLRP,
        CP_LRP,
    ],
)
def test_completeness_needs_every_rule(rules: Rules) -> None:
    assert share_missed("eva_class", rules) > 1e-5


@pytest.mark.parametrize("changes", [{"residual": 1.0}, {"linear": 0.3, "convolution": 0.3}])
@pytest.mark.parametrize("name", ["class", "headless", "eva_registers", "swin", "resnet"])
def test_residual_and_gamma_rules_conserve_what_libra_does(
    name: str, changes: dict[str, float]
) -> None:
    assert share_missed(name, replace(LIBRA, **changes)) < 1e-9  # type: ignore[arg-type]


@pytest.mark.parametrize("rules", [CP_LRP, ATTNLRP, LIBRA, RESLRP, replace(RESLRP, linear=0.1)])
@pytest.mark.parametrize("name", ["class", "latent_pool", "eva_class", "resnet", "efficientnet"])
def test_outputs_are_bit_for_bit_those_of_frozen_weights(name: str, rules: Rules) -> None:
    module, inputs = zoo.build(name), zoo.images()
    with torch.no_grad():
        right = module(inputs)
    with propagating(rules, module):
        found = module(inputs.requires_grad_())
    assert torch.equal(found, right)


def gradient_of(module: nn.Module, rules: Rules) -> torch.Tensor:
    inputs = zoo.images(1).requires_grad_()
    with propagating(rules, module):
        score = module(inputs).amax(1).sum()
    return torch.autograd.grad(score, inputs)[0]


def test_the_innermost_of_nested_blocks_holds() -> None:
    module = zoo.build("class")
    alone = {rules: gradient_of(module, rules) for rules in (PLAIN, LIBRA, ATTNLRP)}
    for outer in (LIBRA, ATTNLRP):
        with propagating(outer, module):
            for inner in (PLAIN, LIBRA, ATTNLRP):
                assert torch.equal(gradient_of(module, inner), alone[inner])
            inputs = zoo.images(1).requires_grad_()
            score = module(inputs).amax(1).sum()
            assert torch.equal(torch.autograd.grad(score, inputs)[0], alone[outer])


def test_everything_is_restored_after_an_exception() -> None:
    module = zoo.build("class").train()
    frozen = next(module.parameters()).requires_grad_(False)
    flags = [weight.requires_grad for weight in module.parameters()]
    before = gradient_of(module.eval(), PLAIN)
    module.train()
    handle = module.get_submodule("blocks.1.mlp").register_forward_hook(fail)
    for _ in range(2):
        with (
            pytest.raises(ZeroDivisionError),
            propagating(LIBRA, module),
            propagating(ATTNLRP, module),
        ):
            module(zoo.images(1).requires_grad_())
    handle.remove()
    assert module.training
    assert [weight.requires_grad for weight in module.parameters()] == flags
    assert not frozen.requires_grad
    assert torch.equal(gradient_of(module.eval(), PLAIN), before)


def fail(*_: object) -> None:
    raise ZeroDivisionError


def test_nothing_is_changed_outside_the_block_nor_without_gradients() -> None:
    module, inputs = zoo.build("class"), zoo.images(1).requires_grad_()
    with propagating(LIBRA, module), torch.no_grad():
        assert not module(inputs).requires_grad
    source = torch.randn(3, requires_grad=True)
    with propagating(LIBRA, module):
        inside = functional.gelu(source)
    outside = functional.gelu(source)
    inside, outside = (torch.autograd.grad(o.sum(), source)[0] for o in (inside, outside))
    assert not torch.equal(inside, outside)
    assert torch.equal(inside, 0.5 * (1 + torch.erf(source.detach() / 2**0.5)))


def test_threads_that_share_a_module_have_their_own_rules() -> None:
    module = zoo.build("class")
    kinds = [PLAIN, LIBRA, ATTNLRP, CP_LRP] * 3
    right = {rules: gradient_of(module, rules) for rules in set(kinds)}
    found: dict[int, torch.Tensor] = {}

    def work(place: int) -> None:
        found[place] = gradient_of(module, kinds[place])

    threads = [threading.Thread(target=work, args=(place,)) for place in range(len(kinds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for place, rules in enumerate(kinds):
        if rules == PLAIN:  # shares no lock: weights may be frozen meanwhile, which moves bits
            assert (found[place] - right[rules]).abs().max() < 1e-5 * right[rules].abs().max()
        else:
            assert torch.equal(found[place], right[rules])
    assert all(weight.requires_grad for weight in module.parameters())


def test_no_graph_outlives_its_tensors() -> None:
    """Closures of the rules hold no output, so that graphs are freed without a collector."""
    module, inputs = zoo.build("eva_class"), zoo.images(1).requires_grad_()
    gc.collect()
    gc.disable()
    try:
        with propagating(replace(RESLRP, linear=0.1, constants=True), module) as ledger:
            score = module(inputs).amax()
        torch.autograd.grad(score, inputs)
        assert held() > 10
        del score, ledger
        assert held() == 0
        observe(module, zoo.images(1), score=lambda outputs: outputs.amax(1), rules=LIBRA)
        assert held() == 0
    finally:
        gc.enable()


KINDS = (Layer, Statistics, Entry, Observer)


def held() -> int:
    return sum(type(each) in KINDS for each in gc.get_objects())


def test_several_scores_of_one_graph() -> None:
    module, inputs = zoo.build("class"), zoo.images(1).requires_grad_()
    with propagating(replace(LIBRA, constants=True), module) as ledger:
        outputs = module(inputs)
    assert ledger is not None
    totals: list[torch.Tensor] = []
    for index in (0, 1, 0):
        (gradient,) = torch.autograd.grad(outputs[0, index], inputs, retain_graph=True)
        totals.append((gradient * inputs).sum() + ledger.total(1)[0])
        assert torch.allclose(totals[-1], outputs[0, index], rtol=1e-3, atol=1e-4)
    assert totals[0] == totals[2]


@pytest.mark.parametrize(
    ("function", "right"),
    [
        (lambda x, c: x + c, 1.0),
        (lambda x, c: c + x, 1.0),
        (lambda x, c: torch.add(x, c, alpha=3), 3.0),
        (lambda x, c: (2 * x).add_(c).mul_(2), 2.0),
        (lambda x, c: x - c, -1.0),
        (lambda x, c: c - x, 1.0),
        (lambda x, c: (2 * x).sub_(c), -1.0),
        (lambda x, c: torch.cat([c, x]), 1.0),
        (lambda x, c: torch.stack([x, c, x]), 1.0),
        (lambda x, c: torch.addcmul(c, x, c), 1.0),
        (lambda x, c: torch.addmm(c, x, torch.eye(4, dtype=x.dtype)), 1.0),
        (lambda x, c: 2 * (x + c) + x, 2.0),
        (lambda x, c: x * c, 0.0),
    ],
)
def test_every_way_of_adding_a_constant_is_in_the_account(
    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], right: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    source, constant = (
        torch.randn(3, 4, dtype=torch.float64, generator=generator) for _ in range(2)
    )
    leaf = source.requires_grad_()
    with propagating(Rules(constants=True), nn.Identity()) as ledger:
        output = function(leaf, constant)
    (gradient,) = torch.autograd.grad(output.sum(), leaf)
    assert ledger is not None
    total = ledger.total(3).sum().double()
    assert torch.allclose(total, right * constant.sum())
    assert torch.allclose((leaf * gradient).sum() + total, output.sum())
