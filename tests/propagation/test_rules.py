"""Rules one by one: each kind of operation against its formula, forward values untouched."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from visattn.propagation import ATTNLRP, CP_LRP, LIBRA, PLAIN, RESLRP, Rules, propagating

DOUBLE = torch.float64
GATE = Rules(activation="gate")
HALF = Rules(attention="half")
VALUE = Rules(attention="value")
PRODUCT = Rules(product="half")
NORM = Rules(norm="detached")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=DOUBLE, generator=torch.Generator().manual_seed(seed))


def gradients(
    rules: Rules, function: Callable[..., torch.Tensor], *tensors: torch.Tensor
) -> list[torch.Tensor]:
    """Gradients of a random weighting of ``function``, whose value must not change."""
    leaves = [tensor.clone().requires_grad_() for tensor in tensors]
    with torch.no_grad():
        right = function(*(tensor.clone() for tensor in tensors))
    with propagating(rules, nn.Identity()):
        found = function(*leaves)
    assert torch.equal(found, right)
    slope = normal(*found.shape, seed=99)
    return list(torch.autograd.grad((found * slope).sum(), leaves, allow_unused=True))


def assert_near(found: Any, right: Any, tolerance: float = 1e-12) -> None:
    for one, other in zip(found, right, strict=True):
        assert (one - other).abs().max() <= tolerance * other.abs().max().clamp(min=1e-300)


def explicit_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any = None
) -> torch.Tensor:
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    scores = scores if mask is None else scores + mask
    return scores.softmax(-1) @ value


def einsum_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any = None
) -> torch.Tensor:
    scores = torch.einsum("bhid,bhjd->bhij", query, key) / math.sqrt(query.shape[-1])
    scores = scores if mask is None else scores + mask
    weights = functional.dropout(functional.softmax(scores, dim=-1), 0.1, training=False)
    return torch.einsum("bhij,bhjd->bhid", (weights, value))


def batched_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any = None
) -> torch.Tensor:
    flat = [t.flatten(0, 1) for t in (query / math.sqrt(query.shape[-1]), key, value)]
    added = torch.zeros(1, 1, 1, dtype=DOUBLE) if mask is None else mask.flatten(0, 1)
    weights = torch.softmax(torch.baddbmm(added, flat[0], flat[1].mT), -1)
    return torch.bmm(weights, flat[2]).reshape(query.shape)


FORMS = [
    functional.scaled_dot_product_attention,
    explicit_attention,
    einsum_attention,
    batched_attention,
]


def qkv() -> list[torch.Tensor]:
    return [3 * normal(2, 3, 5, 4, seed=1), normal(2, 3, 5, 4, seed=2), normal(2, 3, 5, 4, seed=3)]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("masked", [False, True])
def test_value_path_keeps_the_weights_constant(form: Any, masked: bool) -> None:
    query, key, value = qkv()
    mask = normal(2, 3, 5, 5, seed=4) if masked else None
    found = gradients(VALUE, lambda q, k, v: form(q, k, v, mask), query, key, value)
    scores = query @ key.mT / 2 + (0 if mask is None else mask)
    right = scores.softmax(-1).mT @ normal(2, 3, 5, 4, seed=99)
    assert_near(found[2:], [right])
    assert all(gradient is None or not gradient.any() for gradient in found[:2])


@pytest.mark.parametrize("form", FORMS)
def test_half_is_the_relevance_rule_of_attnlrp(form: Any) -> None:
    """Propositions 3.1 and 3.3 with dense A and S, against gradients times inputs."""
    query, key, value = qkv()
    found = gradients(HALF, form, query, key, value)
    scores = query @ key.mT / 2
    weights = scores.softmax(-1)
    output = weights @ value
    relevance = output * normal(2, 3, 5, 4, seed=99)
    share = relevance / (2 * output)
    of_value = value * (weights.mT @ share)
    of_weights = weights * (share @ value.mT)
    of_scores = softmax_rule(scores, weights, of_weights)
    share = of_scores / (2 * scores)
    of_query, of_key = query * (share @ key) / 2, key * (share.mT @ query) / 2
    products = [tensor * g for tensor, g in zip((query, key, value), found, strict=True)]
    assert_near(products, [of_query, of_key, of_value], 1e-10)


def softmax_rule(
    scores: torch.Tensor, weights: torch.Tensor, relevance: torch.Tensor
) -> torch.Tensor:
    """``R_i = x_i (R_i' - s_i sum_j R_j')``."""
    return scores * (relevance - weights * relevance.sum(-1, keepdim=True))


def test_half_scales_plain_gradients_of_fused_attention() -> None:
    query, key, value = qkv()
    plain = gradients(PLAIN, functional.scaled_dot_product_attention, query, key, value)
    found = gradients(HALF, functional.scaled_dot_product_attention, query, key, value)
    assert_near(found, [plain[0] / 4, plain[1] / 4, plain[2] / 2])


@pytest.mark.parametrize("form", FORMS)
def test_a_learned_query_leaves_its_share_to_the_key(form: Any) -> None:
    query, key, value = qkv()
    plain = gradients(PLAIN, lambda k, v: form(query, k, v), key, value)
    found = gradients(HALF, lambda k, v: form(query, k, v), key, value)
    assert_near(found, [plain[0] / 2, plain[1] / 2])


def test_mixed_and_masked_weights_are_weights_and_a_softmax_of_no_value_stays_plain() -> None:
    query, key, value = qkv()
    mixing = normal(3, 3, seed=5)

    def talking_heads(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        weights = (q @ k.mT).softmax(-1)
        weights = functional.linear(weights.permute(0, 2, 3, 1), mixing).permute(0, 3, 1, 2)
        return (weights / weights.sum(-1, keepdim=True)) @ v

    found = gradients(VALUE, talking_heads, query, key, value)
    assert found[0] is None or not found[0].any()
    assert found[2].any()
    (plain,) = gradients(PLAIN, lambda x: x.softmax(-1), query)
    assert_near(gradients(LIBRA, lambda x: x.softmax(-1), query), [plain])


def test_gating_weights_of_branches_are_constant_on_the_value_path() -> None:
    """Selective kernels: a softmax over branches times their features."""
    source = normal(2, 3, 4, seed=6)

    def select(x: torch.Tensor) -> torch.Tensor:
        return (x * (2 * x).softmax(1)).sum(1)

    (found,) = gradients(VALUE, select, source)
    slope = normal(2, 4, seed=99)[:, None]
    assert_near([found], [(2 * source).softmax(1) * slope])


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    std = (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt().detach()
    return weight * (x - x.mean(-1, keepdim=True)) / std + bias


WEIGHT, BIAS = normal(6, seed=7), normal(6, seed=8)


def plainly(function: Callable[..., torch.Tensor], source: torch.Tensor) -> list[torch.Tensor]:
    leaf = source.clone().requires_grad_()
    found = function(leaf)
    return list(torch.autograd.grad((found * normal(*found.shape, seed=99)).sum(), leaf))


def rms(x: torch.Tensor) -> torch.Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt().detach() * WEIGHT


def grouped(x: torch.Tensor) -> torch.Tensor:
    parts = x.reshape(x.shape[0], 3, -1)
    std = (parts.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt().detach()
    normed = ((parts - parts.mean(-1, keepdim=True)) / std).reshape(x.shape)
    return normed * WEIGHT[:, None, None] + BIAS[:, None, None]


NORMS: list[tuple[str, Any, Any, tuple[int, ...]]] = [
    (
        "layer_norm",
        lambda x: functional.layer_norm(x, (6,), WEIGHT, BIAS),
        lambda x: layer_norm(x, WEIGHT, BIAS),
        (2, 5, 6),
    ),
    (
        "layer_norm over two axes",
        lambda x: functional.layer_norm(x, (5, 6)),
        lambda x: layer_norm(x.flatten(1), torch.ones(1), torch.zeros(1)).reshape(x.shape),
        (2, 5, 6),
    ),
    (
        "transposed layer_norm",
        lambda x: torch.layer_norm(x.permute(0, 2, 3, 1), (6,), WEIGHT, BIAS, 1e-5),
        lambda x: layer_norm(x.permute(0, 2, 3, 1), WEIGHT, BIAS),
        (2, 6, 3, 4),
    ),
    ("rms_norm", lambda x: functional.rms_norm(x, (6,), WEIGHT, 1e-5), rms, (2, 5, 6)),
    (
        "written-out rms_norm",
        lambda x: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * WEIGHT,
        rms,
        (2, 5, 6),
    ),
    (
        "written-out with a power",
        lambda x: x * ((x * x).mean(-1, keepdim=True) + 1e-5) ** -0.5 * WEIGHT,
        rms,
        (2, 5, 6),
    ),
    (
        "written-out layer_norm",
        lambda x: WEIGHT * ((x - x.mean(-1, keepdim=True)) / torch.sqrt(variance(x) + 1e-5)) + BIAS,
        lambda x: layer_norm(x, WEIGHT, BIAS),
        (2, 5, 6),
    ),
    (
        "group_norm",
        lambda x: functional.group_norm(x, 3, WEIGHT, BIAS),
        grouped,
        (2, 6, 3, 4),
    ),
    (
        "normalize",
        lambda x: functional.normalize(x, dim=1),
        lambda x: x / x.norm(dim=1, keepdim=True).detach(),
        (2, 5, 6),
    ),
]


def variance(x: torch.Tensor) -> torch.Tensor:
    return (x - x.mean(-1, keepdim=True)).pow(2).mean(-1, keepdim=True)


@pytest.mark.parametrize(("function", "formula", "shape"), [n[1:] for n in NORMS])
def test_a_norm_divides_by_a_constant(function: Any, formula: Any, shape: tuple[int, ...]) -> None:
    source = normal(*shape, seed=9) + 0.5
    assert_near(gradients(NORM, function, source), plainly(formula, source))
    plain = gradients(PLAIN, function, source)[0]
    assert (plain - gradients(NORM, function, source)[0]).abs().max() > 1e-3 * plain.abs().max()


def test_batch_norm_in_eval_mode_is_linear_already() -> None:
    source, mean, spread = normal(2, 6, 3, 3), normal(6), normal(6).exp()

    def norm(x: torch.Tensor) -> torch.Tensor:
        return functional.batch_norm(x, mean, spread, WEIGHT, BIAS)

    assert_near(gradients(LIBRA, norm, source), gradients(PLAIN, norm, source))


def tanh_gelu(x: torch.Tensor) -> torch.Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x.pow(3))))


ACTIVATIONS: list[tuple[Any, Any]] = [
    (functional.gelu, lambda x: 0.5 * (1 + torch.erf(x / math.sqrt(2)))),
    (lambda x: functional.gelu(x, approximate="tanh"), lambda x: tanh_gelu(x) / x),
    (tanh_gelu, lambda x: tanh_gelu(x) / x),
    (lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))), lambda x: functional.gelu(x) / x),
    (lambda x: x * torch.sigmoid(1.702 * x), lambda x: torch.sigmoid(1.702 * x)),
    (functional.silu, torch.sigmoid),
    (lambda x: functional.silu(x + 0, inplace=True), torch.sigmoid),
    (functional.hardswish, lambda x: functional.relu6(x + 3) / 6),
    (functional.mish, lambda x: torch.tanh(functional.softplus(x))),
    (lambda x: x.mul(functional.softplus(x).tanh()), lambda x: torch.tanh(functional.softplus(x))),
    (torch.tanh, lambda x: torch.tanh(x) / x),
    (functional.relu, lambda x: (x > 0).to(DOUBLE)),
    (functional.relu6, lambda x: functional.relu6(x) / x),
    (functional.elu, lambda x: functional.elu(x) / x),
    (lambda x: functional.relu(x) ** 2, lambda x: functional.relu(x).pow(2) / x),
    (lambda x: functional.relu(x).square(), lambda x: functional.relu(x).pow(2) / x),
]


@pytest.mark.parametrize(("function", "gate"), ACTIVATIONS)
def test_the_gate_of_an_activation_is_constant(function: Any, gate: Any) -> None:
    source = 4 * normal(3, 50, seed=10)
    right = gate(source) * normal(3, 50, seed=99)
    assert_near(gradients(GATE, function, source), [right], 1e-11)


def test_activations_are_defined_at_zero_and_in_halves() -> None:
    zero = torch.zeros(3, dtype=DOUBLE)
    for function, _ in ACTIVATIONS:
        assert gradients(GATE, function, zero)[0].isfinite().all()
    source = torch.linspace(-6, 6, 50, dtype=torch.float16, requires_grad=True)
    with propagating(GATE, nn.Identity()):
        (found,) = torch.autograd.grad(functional.gelu(source).sum(), source)
    right = functional.gelu(source.detach().double()) / source.detach().double()
    assert (found.double() - right).abs().max() < 1e-3


def test_gated_linear_units_keep_their_gate_constant() -> None:
    source = normal(2, 8, seed=11)
    (found,) = gradients(GATE, functional.glu, source)
    slope = normal(2, 4, seed=99)
    right = torch.cat([source[:, 4:].sigmoid() * slope, torch.zeros(2, 4, dtype=DOUBLE)], 1)
    assert_near([found], [right])


def test_a_sigmoid_that_gates_nothing_stays_plain() -> None:
    source = normal(2, 8, seed=12)
    assert_near(gradients(LIBRA, torch.sigmoid, source), gradients(PLAIN, torch.sigmoid, source))


@pytest.mark.parametrize(
    "product",
    [
        lambda a, b: a * b,
        torch.mul,
        lambda a, b: (a + 0).mul_(b),
        lambda a, b: torch.einsum("ij,ij->ij", a, b),
        lambda a, b: torch.addcmul(torch.ones(4, dtype=DOUBLE), a, b),
    ],
)
def test_a_product_of_two_activations_hands_half_to_each(product: Any) -> None:
    one, other = normal(3, 4, seed=13), normal(3, 4, seed=14)
    slope = normal(3, 4, seed=99)
    assert_near(gradients(PRODUCT, product, one, other), [other * slope / 2, one * slope / 2])


def test_products_share_by_their_number_of_factors_and_constants_take_nothing() -> None:
    one, other, third = (normal(3, 3, seed=s) for s in (15, 16, 17))
    found = gradients(PRODUCT, lambda *t: torch.einsum("ij,jk,kl->il", *t), one, other, third)
    plain = gradients(PLAIN, lambda *t: torch.einsum("ij,jk,kl->il", *t), one, other, third)
    assert_near(found, [gradient / 3 for gradient in plain])
    assert_near(
        gradients(PRODUCT, lambda x: x * WEIGHT[:3], one),
        gradients(PLAIN, lambda x: x * WEIGHT[:3], one),
    )
    assert_near(gradients(PRODUCT, lambda x: x * x, one), [one * normal(3, 3, seed=99)])


def update(z: torch.Tensor) -> torch.Tensor:
    return torch.sin(3 * z)


def in_place(z: torch.Tensor) -> torch.Tensor:
    z += update(z)
    return z


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x + update(x),
        lambda x: update(x) + x,
        lambda x: torch.add(x, update(x)),
        lambda x: in_place(x * 1),
        lambda x: update(x).add_(x),
    ],
)
@pytest.mark.parametrize("gamma", [0.5, 1.0, 3.0])
def test_a_residual_sum_shares_relevance_as_reslrp(form: Any, gamma: float) -> None:
    source = normal(4, 60, seed=18)
    (found,) = gradients(Rules(residual=gamma), form, source)
    up, slope = update(source), normal(4, 60, seed=99)
    relevance = (source + up) * slope
    weigh_in, weigh_up = (
        1 + gamma * (z.sign() == (source + up).sign()).to(DOUBLE) for z in (source, up)
    )
    divisor = weigh_in * source + weigh_up * up
    of_in, of_up = weigh_in * source / divisor * relevance, weigh_up * up / divisor * relevance
    assert_near([of_in + of_up], [relevance])
    assert (of_in.abs() + of_up.abs() <= (1 + 2 / gamma) * relevance.abs() + 1e-12).all()
    through = of_up / up * 3 * torch.cos(3 * source)
    assert_near([found], [of_in / source + through], 1e-9)


def test_gamma_zero_and_cancelled_sums() -> None:
    source = normal(4, 6, seed=19)
    plain = gradients(PLAIN, lambda x: x + update(x), source)[0]
    assert torch.equal(gradients(Rules(residual=0.0), lambda x: x + update(x), source)[0], plain)
    cancelled = gradients(Rules(residual=1.0), lambda x: x + (-1 * x), source)[0]
    assert not cancelled.any()


def test_only_a_branch_on_its_own_input_is_a_residual_sum() -> None:
    source, other = normal(4, 6, seed=20), normal(4, 6, seed=21)
    rules, positions = Rules(residual=1.0), normal(6, seed=22)

    def rotary(x: torch.Tensor) -> torch.Tensor:
        turned = torch.cat([-x[:, 3:], x[:, :3]], 1)
        return x * positions.cos() + turned * positions.sin()

    for function, tensors in (
        (rotary, (source,)),
        (lambda x: x + positions, (source,)),
        (lambda a, b: a.exp() + b.exp(), (source, other)),
        (lambda x: x.sin() + x.cos(), (source,)),
        (lambda x: x + 2.0, (source,)),
    ):
        assert_near(gradients(rules, function, *tensors), gradients(PLAIN, function, *tensors))


def gamma_rule(
    source: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, gamma: float, out: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Relevance of inputs and of biases by the double loop over contributions."""
    rows, count = weight.shape
    relevance, of_bias = torch.zeros(count, dtype=DOUBLE), torch.zeros(rows, dtype=DOUBLE)
    for j in range(rows):
        shares = [float(source[i] * weight[j, i]) for i in range(count)] + [float(bias[j])]
        positive = sum(shares) >= 0
        raised = [c + gamma * (max(c, 0) if positive else min(c, 0)) for c in shares]
        for i in range(count):
            relevance[i] += raised[i] / sum(raised) * out[j]
        of_bias[j] = raised[-1] / sum(raised) * out[j]
    return relevance, of_bias


@pytest.mark.parametrize("gamma", [0.0, 0.05, 1.0, 100.0])
def test_the_gamma_rule_of_a_linear_layer_is_the_double_loop(gamma: float) -> None:
    source, weight, bias = normal(1, 1, 5, seed=23), normal(4, 5, seed=24), normal(4, seed=25)
    rules = Rules(linear=gamma, constants=True)
    leaf = source.clone().requires_grad_()
    with propagating(rules, nn.Identity()) as ledger:
        output = functional.linear(leaf, weight, bias)
    slope = normal(1, 1, 4, seed=99)
    (found,) = torch.autograd.grad((output * slope).sum(), leaf)
    out = (output * slope).detach()[0, 0]
    right, of_bias = gamma_rule(source[0, 0], weight, bias, gamma, out)
    assert_near([(source * found)[0, 0]], [right], 1e-11)
    assert ledger is not None
    assert_near([ledger.total(1)], [of_bias.sum()[None]], 1e-11)
    assert abs(float(right.sum() + of_bias.sum() - (output * slope).sum().detach())) < 1e-12


def test_infinite_gamma_is_the_rule_of_positive_contributions() -> None:
    source, weight, bias = normal(1, 1, 5, seed=26), normal(4, 5, seed=27), normal(4, seed=28)

    def layer(x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, weight, bias)

    found = gradients(Rules(linear=math.inf), layer, source)
    assert_near(found, gradients(Rules(linear=1e9), layer, source), 1e-6)


def test_layers_on_pooled_vectors_keep_the_epsilon_rule() -> None:
    vector, weight = normal(2, 5, seed=35), normal(4, 5, seed=36)
    rules = Rules(linear=0.5, convolution=0.5)
    for layer, source in (
        (lambda x: functional.linear(x, weight), vector),
        (lambda x: x @ weight.T, vector),
        (lambda x: functional.conv2d(x, weight[:, :, None, None]), vector[:, :, None, None]),
    ):
        assert_near(gradients(rules, layer, source), gradients(PLAIN, layer, source))
    tokens = normal(2, 3, 5, seed=37)
    found = gradients(rules, lambda x: functional.linear(x, weight), tokens)
    plain = gradients(PLAIN, lambda x: functional.linear(x, weight), tokens)
    assert (found[0] - plain[0]).abs().max() > 0.1


@pytest.mark.parametrize("groups", [1, 2])
def test_the_gamma_rule_of_a_convolution_is_that_of_its_matrix(groups: int) -> None:
    source = normal(1, 4, 5, 6, seed=29)
    weight, bias = normal(6, 4 // groups, 3, 3, seed=30), normal(6, seed=31)

    def convolve(x: torch.Tensor) -> torch.Tensor:
        return functional.conv2d(x, weight, bias, stride=2, padding=1, groups=groups)

    (found,) = gradients(Rules(convolution=0.25), convolve, source)
    output = convolve(source)
    matrix = torch.autograd.functional.jacobian(convolve, source)
    matrix = matrix.reshape(output.numel(), source.numel())
    out = (output * normal(*output.shape, seed=99)).flatten()
    spread = bias[:, None, None].expand(output.shape[1:]).flatten()
    right, _ = gamma_rule(source.flatten(), matrix, spread, 0.25, out)
    assert_near([(source * found).flatten()], [right], 1e-10)


def test_gamma_on_a_matrix_product_with_a_constant() -> None:
    source, weight = normal(2, 3, 5, seed=32), normal(4, 5, seed=33)
    rules = Rules(linear=0.5)
    right = gradients(rules, lambda x: functional.linear(x, weight), source)
    assert_near(gradients(rules, lambda x: x @ weight.T, source), right)
    assert_near(gradients(rules, lambda x: torch.matmul(weight, x.mT).mT, source), right)


@pytest.mark.parametrize("rules", [CP_LRP, ATTNLRP, LIBRA, RESLRP, replace(RESLRP, linear=0.1)])
@pytest.mark.parametrize("need_weights", [False, True])
def test_multihead_attention_in_one_call_follows_the_rules(
    rules: Rules, need_weights: bool
) -> None:
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(12, 3, batch_first=True, dtype=DOUBLE).eval()
    nn.init.normal_(layer.in_proj_bias)
    source = 2 * normal(2, 5, 12, seed=34)

    def written_out(x: torch.Tensor) -> torch.Tensor:
        packed = functional.linear(x, layer.in_proj_weight, layer.in_proj_bias)
        query, key, value = packed.reshape(2, 5, 3, 3, 4).permute(2, 0, 3, 1, 4)
        heads = explicit_attention(query, key, value).transpose(1, 2).flatten(2)
        return layer.out_proj(heads)

    found = source.clone().requires_grad_()
    with propagating(rules, layer):
        output, weights = layer(found, found, found, need_weights=need_weights)
    with torch.no_grad():
        assert (output - layer(source, source, source)[0]).abs().max() < 1e-12
    assert (weights is None) != need_weights
    slope = normal(2, 5, 12, seed=99)
    (one,) = torch.autograd.grad((output * slope).sum(), found)
    again = source.clone().requires_grad_()
    with propagating(rules, layer):
        output = written_out(again)
    assert_near([one], torch.autograd.grad((output * slope).sum(), again), 1e-10)
