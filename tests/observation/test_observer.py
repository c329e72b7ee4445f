"""Observation: complete, exact, and without a trace."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import _get_current_function_mode_stack

import visattn
from tests import zoo
from visattn.errors import CaptureError
from visattn.observation import observe, prove


class Softmax(nn.Module):
    """Hand-written attention, in the ways people write it."""

    def __init__(self, style: str) -> None:
        super().__init__()
        self.style, self.qkv = style, nn.Linear(8, 24)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        batch, count, _ = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, count, 3, 2, 4).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        mask = torch.ones(count, count).triu(1).bool()
        bias = torch.linspace(-1, 1, count * count).reshape(count, count)
        if self.style == "matmul":
            attn = functional.softmax(torch.matmul(q * 0.5, k.transpose(-1, -2)), dim=-1)
        elif self.style == "divide_bias":
            attn = torch.softmax(q @ k.transpose(-2, -1) / 2.0 + bias, dim=-1)
        elif self.style == "bias_then_scale":
            attn = ((bias + q @ k.mT) * 3).softmax(-1)
        elif self.style == "mask":
            attn = (q @ k.mT).masked_fill(mask, float("-inf")).softmax(-1)
        elif self.style == "module":
            attn = nn.Softmax(dim=-1)(0.5 * (q @ k.mT))
            attn = functional.dropout(attn, 0.5, training=False)
        elif self.style == "bool_sdpa":
            return functional.scaled_dot_product_attention(q, k, v, attn_mask=~mask)
        elif self.style == "causal_sdpa":
            return functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=0.7)
        elif self.style == "grouped_sdpa":
            return functional.scaled_dot_product_attention(q, k[:, :1], v[:, :1], enable_gqa=True)
        else:
            attn = (q @ k.mT).view(batch, 2, count, count).softmax(-1)
        return attn @ v


STYLES = (
    "matmul", "divide_bias", "bias_then_scale", "mask", "module", "bool_sdpa", "causal_sdpa",
    "grouped_sdpa", "view",
)  # fmt: skip


@pytest.mark.parametrize("style", STYLES)
def test_every_way_of_writing_attention_is_recognised(style: str) -> None:
    torch.manual_seed(0)
    module, tokens = Softmax(style), torch.randn(2, 7, 8)
    seen = observe(module, tokens)
    assert len(seen.operations) == 1
    operation = seen.operations[0]
    assert operation.shape == (2, 2, 7, 7)
    assert operation.explicit is None
    assert operation.fused == style.endswith("sdpa")
    prove(module, tokens).require()
    torch.testing.assert_close(operation.weights() @ operation.value, operation.output)


@pytest.mark.parametrize("name", zoo.VITS)
@pytest.mark.parametrize("fused", [True, False])
def test_proofs_hold_on_every_arrangement(name: str, fused: bool) -> None:
    module = zoo.build(name)
    if not fused:
        zoo.unfuse(module)
    proof = prove(module, zoo.images())
    proof.require()
    assert proof.outputs_identical
    assert proof.product_error < 1e-5
    assert proof.row_sum_error < 1e-5


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_proofs_hold_in_other_precisions(dtype: torch.dtype) -> None:
    module = zoo.build("class").to(dtype)
    prove(module, zoo.images().to(dtype)).require()
    weights = visattn.capture(module, zoo.images().to(dtype))[0].weights()
    assert weights.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_outputs_with_gradients_are_those_without() -> None:
    module, inputs = zoo.build("registers"), zoo.images()
    with torch.no_grad():
        plain = module(inputs)
    seen = observe(module, inputs, score=lambda outputs: outputs.sum(dim=1))
    assert torch.equal(seen.outputs, plain)


def test_fused_attention_stays_fused() -> None:
    record = visattn.capture(zoo.build("class"), zoo.images(1))
    assert all(operation.fused and operation.explicit is None for operation in record)


def test_a_proof_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from visattn.observation.operation import AttentionOperation

    plain = AttentionOperation.rows
    monkeypatch.setattr(AttentionOperation, "rows", lambda self, i: plain(self, i).flip(-1))
    with pytest.raises(CaptureError, match=r"blocks\.0\.attn.*would be wrong"):
        visattn.explain(zoo.build("class"), zoo.images(1), method="rollout")


@pytest.mark.parametrize(
    "wrong",
    [
        {"operations": 0},
        {"outputs_identical": False},
        {"product_error": 1e-3},
        {"row_sum_error": float("inf")},
    ],
)
def test_a_proof_needs_all_its_parts(wrong: dict[str, Any]) -> None:
    proof = prove(zoo.build("class"), zoo.images(1))
    assert proof.holds
    with pytest.raises(CaptureError, match="not what the model computed"):
        replace(proof, **wrong).require()


class Overwriting(nn.Module):
    """Attention whose operands or weights are not left alone."""

    def __init__(self, what: str) -> None:
        super().__init__()
        self.what, self.qkv = what, nn.Linear(8, 24)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(tokens).reshape(2, 7, 3, 2, 4).permute(2, 0, 3, 1, 4)
        q, k, v = (part.clone() for part in qkv.unbind(0))
        if self.what == "weights":
            attn = (q @ k.mT).softmax(-1)
            attn[:, :, 1:-1, :3] -= 0.1
            return attn @ v
        if self.what == "dropout":
            return functional.dropout((q @ k.mT).softmax(-1), 0.5, training=True) @ v
        output = functional.scaled_dot_product_attention(q, k, v)
        {"query": q, "value": v, "output": output}[self.what].mul_(2.0)
        return output


@pytest.mark.parametrize("what", ["weights", "dropout", "query", "value", "output"])
def test_operands_that_are_overwritten_are_found(what: str) -> None:
    torch.manual_seed(0)
    module, tokens = Overwriting(what), torch.randn(2, 7, 8)
    if what == "weights":
        weights = observe(module, tokens).operations[0].weights()
        assert (weights.sum(-1) < 0.9).any()
        return
    with pytest.raises(CaptureError, match="overwritten in place"):
        observe(module, tokens)


def test_fully_masked_rows_have_no_weights() -> None:
    class Masked(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mask = torch.ones(7, 7).bool()
            mask[2] = False
            return functional.scaled_dot_product_attention(x, x, x, attn_mask=mask)

    weights = observe(Masked(), torch.randn(1, 2, 7, 4)).operations[0].weights()
    assert torch.isfinite(weights).all()
    assert weights.sum(-1)[0, 0].round().tolist() == [1, 1, 0, 1, 1, 1, 1]


def test_a_module_that_runs_twice_is_refused() -> None:
    from timm.models.vision_transformer import VisionTransformer

    class Twice(VisionTransformer):
        def forward(self, x: torch.Tensor, *_: object) -> torch.Tensor:
            return super().forward(x) + super().forward(x.flip(-1))

    module = Twice(img_size=zoo.SIZE, embed_dim=32, depth=2, num_heads=2, num_classes=3).eval()
    for method in ("rollout", "gradcam"):
        with pytest.raises(CaptureError, match=r"ran (2|several) times"):
            visattn.explain(module, zoo.images(1), method=method)


def test_threads_that_share_a_model_take_turns() -> None:
    module = zoo.build("class").train()
    right = visattn.explain(module, zoo.images(), method="gae", target=0)[0].grid
    found: list[Any] = []

    def work() -> None:
        found.append(visattn.explain(module, zoo.images(), method="gae", target=0)[0].grid)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert module.training
    assert len(found) == 4
    for grid in found:
        assert abs(grid - right).max() < 1e-5 * abs(right).max()


def test_no_attention_is_an_error_that_names_the_classes() -> None:
    class LinearAttention(nn.Module):
        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return inputs * inputs.softmax(dim=-1)

    with pytest.raises(CaptureError, match=r"LinearAttention.*met no value"):
        observe(nn.Sequential(LinearAttention()), zoo.images(1))
    with pytest.raises(CaptureError, match="no attention class"):
        observe(zoo.build("resnet"), zoo.images(1))


def test_dropout_inside_attention_is_an_error() -> None:
    class Dropping(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5)

    with pytest.raises(CaptureError, match=r"dropout 0\.5"):
        observe(Dropping(), torch.randn(1, 2, 7, 8))


def state(module: nn.Module) -> tuple[object, ...]:
    return (
        [(part.training, len(part._forward_hooks), len(part._forward_pre_hooks))
         for part in module.modules()],
        [(weight.requires_grad, weight.grad) for weight in module.parameters()],
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        len(_get_current_function_mode_stack()),
        functional.scaled_dot_product_attention,
    )  # fmt: skip


class Planned(Exception):  # noqa: N818
    """An exception that a test injects."""


def fail(*_: object, **__: object) -> None:
    raise Planned


@pytest.mark.parametrize("where", ["nowhere", "hook", "last block", "score", "resolve", "method"])
@pytest.mark.parametrize("method", ["gae", "gradcam", "integrated_gradients"])
def test_everything_is_as_before_whatever_fails(
    where: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = zoo.build("class").train()
    module.blocks[0].eval()
    for index, weight in enumerate(module.parameters()):
        weight.requires_grad_(index % 2 == 0)
    before = state(module)
    if where == "hook":
        monkeypatch.setattr("visattn.observation.activation._tensor", fail)
        monkeypatch.setattr("visattn.observation.observer.AttentionOperation", fail)
    elif where == "last block":
        monkeypatch.setattr(module.blocks[-1], "forward", fail)
    elif where == "resolve":
        monkeypatch.setattr("visattn.observation.passes.resolve", fail)
    elif where == "method":
        monkeypatch.setattr(visattn.methods.get_method(method), "__call__", fail)
    score = fail if where == "score" else lambda outputs: outputs[:, 0]
    happens = where != "nowhere" and not (where == "hook" and method == "integrated_gradients")
    with pytest.raises(Planned) if happens else torch.no_grad():
        options = {"steps": 2} if method == "integrated_gradients" else {}
        visattn.explain(module, zoo.images(), method=method, target=score, **options)
    assert state(module) == before


def test_callers_under_no_grad_and_inference_mode_and_frozen_weights() -> None:
    module = zoo.build("class").requires_grad_(False)
    right = visattn.explain(module, zoo.images(), method="gae", target=1)[0].grid
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            found = visattn.explain(module, zoo.images(), method="gae", target=1)[0].grid
        assert (found == right).all()


def test_a_model_in_another_thread_is_not_observed() -> None:
    module, other = zoo.build("class"), zoo.build("mean")
    plain = module.forward

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        thread = threading.Thread(target=other, args=(inputs,))
        thread.start()
        thread.join()
        return plain(inputs)

    module.forward = forward
    assert len(visattn.capture(module, zoo.images(1))) == 3


def test_gradient_is_that_of_the_explicit_weights() -> None:
    from tests.methods.oracle import Dense

    inputs = zoo.images(1)
    record = visattn.capture(
        zoo.build("distilled"), inputs, gradients_of=lambda outputs: outputs.amax(dim=1)
    )
    dense = Dense(zoo.build("distilled"), inputs[0])
    for operation, right in zip(record, dense.gradient, strict=True):
        found = operation.gradient_rows(torch.arange(operation.shape[2]))
        assert found is not None
        assert (found[0] - right).abs().max() < 1e-5 * right.abs().max()
