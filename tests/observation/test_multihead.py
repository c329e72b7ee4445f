"""torch's own attention modules, native fast path included."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from visattn.errors import CaptureError
from visattn.observation import AttentionOperation, observe, prove

BATCH, HEADS, TOKENS, WIDTH = 2, 4, 6, 8


class Runs(nn.Module):
    """``nn.MultiheadAttention`` called as ``call`` says; tokens come as (batch, token, channel)."""

    def __init__(self, options: dict[str, Any], call: dict[str, Any], keys: int | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attn = nn.MultiheadAttention(WIDTH, HEADS, **options)
        for name, weight in self.attn.named_parameters():
            nn.init.normal_(weight, std=0.2 if "bias" in name else 0.6)
        self.call, self.keys = call, keys

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x if self.attn.batch_first else x.transpose(0, 1)
        memory = x if self.keys is None else x.flip(-2)
        dim = 1 if self.attn.batch_first else 0
        memory = memory if self.keys is None else memory.narrow(dim, 0, self.keys)
        result: torch.Tensor = self.attn(x, memory, memory, **self.call)[0]
        return result if self.attn.batch_first else result.transpose(0, 1)


def tokens() -> torch.Tensor:
    return torch.randn(BATCH, TOKENS, WIDTH, generator=torch.Generator().manual_seed(1))


def score(outputs: torch.Tensor) -> torch.Tensor:
    return outputs.square().flatten(1).sum(1)


CAUSAL = torch.ones(TOKENS, TOKENS).triu(1).bool()
FLOAT = torch.linspace(-2, 2, TOKENS * TOKENS).reshape(TOKENS, TOKENS)
PADDING = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], int | None]] = {
    "native": ({"batch_first": True}, {"need_weights": False}, None),
    "native with weights": ({"batch_first": True}, {}, None),
    "native per head": ({"batch_first": True}, {"average_attn_weights": False}, None),
    "tokens first": ({}, {"need_weights": False}, None),
    "tokens first with weights": ({}, {"average_attn_weights": False}, None),
    "no bias": ({"bias": False, "batch_first": True}, {}, None),
    "causal": ({"batch_first": True}, {"attn_mask": CAUSAL, "need_weights": False}, None),
    "causal hint": (
        {"batch_first": True},
        {"attn_mask": CAUSAL, "is_causal": True, "need_weights": False},
        None,
    ),
    "float mask": ({}, {"attn_mask": FLOAT}, None),
    "mask per head": ({}, {"attn_mask": FLOAT.repeat(BATCH * HEADS, 1, 1)}, None),
    "padding": ({"batch_first": True}, {"key_padding_mask": PADDING}, None),
    "both masks": ({}, {"key_padding_mask": PADDING, "attn_mask": CAUSAL}, None),
    "cross": ({"batch_first": True}, {"need_weights": False}, 4),
    "own widths": ({"kdim": WIDTH, "vdim": WIDTH, "batch_first": True}, {}, 3),
    "bias_k": ({"add_bias_kv": True}, {"attn_mask": FLOAT}, None),
    "zero key": ({"add_zero_attn": True, "batch_first": True}, {"key_padding_mask": PADDING}, None),
}


def case(name: str) -> Runs:
    module = Runs(*CASES[name]).eval()
    if name == "own widths":
        attn = module.attn
        attn._qkv_same_embed_dim = False
        for part in "qkv":
            weight = nn.Parameter(torch.randn(WIDTH, WIDTH))
            attn.register_parameter(f"{part}_proj_weight", weight)
        attn.register_parameter("in_proj_weight", None)
    return module


def heads_as_torch_gives_them(module: Runs, x: torch.Tensor) -> torch.Tensor:
    """Per-head weights (batch, head, query, key) from torch's slow path."""
    found: list[torch.Tensor] = []
    own = module.call
    module.call = {**own, "need_weights": True, "average_attn_weights": False, "is_causal": False}
    handle = module.attn.register_forward_hook(lambda _, __, output: found.append(output[1]))
    module(x)
    handle.remove()
    module.call = own
    return found[0].detach()


@pytest.mark.parametrize("differentiated", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_heads_are_those_of_torch_and_outputs_are_untouched(
    name: str, differentiated: bool
) -> None:
    module, x = case(name), tokens()
    with torch.set_grad_enabled(differentiated):
        plain = module(x.clone().requires_grad_(differentiated)).detach()
    seen = observe(module, x, score=score if differentiated else None)
    assert torch.equal(seen.outputs, plain)
    (operation,) = seen.operations
    assert operation.name == "attn"
    attn = heads_as_torch_gives_them(module, x)
    assert operation.shape == tuple(attn.shape)
    torch.testing.assert_close(operation.weights(), attn, rtol=1e-4, atol=1e-6)
    assert "forward" not in vars(module.attn)


@pytest.mark.parametrize("name", ["native", "tokens first", "causal", "cross", "bias_k"])
def test_the_gradient_is_mapped_through_the_output_projection(name: str) -> None:
    module, x = case(name).double(), tokens().double()
    if "attn_mask" in module.call and module.call["attn_mask"].is_floating_point():
        module.call = {**module.call, "attn_mask": module.call["attn_mask"].double()}
    (operation,) = observe(module, x, score=score).operations
    attn = operation.weights().requires_grad_()
    heads = (attn @ operation.value).permute(0, 2, 1, 3).flatten(-2)
    output = module.attn.out_proj(heads)
    torch.testing.assert_close(output, module(x))
    (gradient,) = torch.autograd.grad(score(output).sum(), attn)
    torch.testing.assert_close(operation.gradient_rows(torch.arange(TOKENS)), gradient)


def test_unbatched_tokens() -> None:
    class Unbatched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.MultiheadAttention(WIDTH, HEADS)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.attn(x[0], x[0], x[0])[0]
            return result[None]

    (operation,) = observe(Unbatched(), tokens()[:1], score=score).operations
    assert operation.shape == (1, HEADS, TOKENS, TOKENS)
    assert operation.output_gradient is not None
    assert operation.output_gradient.shape == operation.output.shape


def test_the_native_kernel_still_computes_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    native, calls = torch._native_multi_head_attention, []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        return native(*args, **kwargs)

    monkeypatch.setattr(torch, "_native_multi_head_attention", counted)
    observe(case("native"), tokens())
    assert len(calls) == 1


def encoder(layers: int, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, dropout=0.0, batch_first=True, **options)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False).eval()


@pytest.mark.parametrize("differentiated", [False, True])
@pytest.mark.parametrize("norm_first", [False, True])
def test_encoders_run_their_native_path(norm_first: bool, differentiated: bool) -> None:
    module, x = encoder(3, norm_first=norm_first), tokens()
    with torch.set_grad_enabled(differentiated):
        plain = module(x.clone().requires_grad_(differentiated)).detach()
    seen = observe(module, x, score=score if differentiated else None)
    assert torch.equal(seen.outputs, plain)
    assert [op.name for op in seen.operations] == [f"layers.{i}.self_attn" for i in range(3)]
    assert all(op.output_gradient is None for op in seen.operations) != differentiated
    prove(module, x).require()


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
def test_padded_encoders_with_nested_tensors() -> None:
    class Padded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 16, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.encoder(x, src_key_padding_mask=PADDING)
            return result

    module = Padded().eval()
    with torch.no_grad():
        plain = module(tokens())
    seen = observe(module, tokens())
    assert torch.equal(seen.outputs, plain)
    assert len(seen.operations) == 2
    assert float(seen.operations[0].weights()[1, :, :4, 4:].abs().max()) == 0.0


def test_modules_are_put_back_whatever_happens() -> None:
    module = encoder(2)
    parts = [part for part in module.modules() if "forward" in vars(part)]

    def own(*_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("planned")

    module.layers[1].forward = own
    with pytest.raises(Exception, match="planned"):
        observe(module, tokens())
    assert vars(module.layers[1])["forward"] is own
    assert not parts
    assert [part for part in module.modules() if "forward" in vars(part)] == [module.layers[1]]


def test_a_native_path_that_computes_otherwise_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from visattn.observation import fastpath

    monkeypatch.setitem(fastpath.AGREEMENT, torch.float32, -1.0)
    with pytest.raises(CaptureError, match="native path of MultiheadAttention differs"):
        observe(case("native"), tokens())


def test_heads_that_do_not_give_the_output_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from visattn.observation.multihead import Multihead

    monkeypatch.setattr(
        Multihead, "merged", lambda self, heads: heads.permute(2, 0, 1, 3).flatten(-2).flip(-1)
    )
    with pytest.raises(CaptureError, match="attn: the heads computed again"):
        observe(case("tokens first"), tokens())


def test_static_keys_are_refused_by_name() -> None:
    class Static(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attn = nn.MultiheadAttention(WIDTH, HEADS)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            a, x = self.attn, x.transpose(0, 1)
            still = torch.zeros(BATCH * HEADS, TOKENS, WIDTH // HEADS)
            return nn.functional.multi_head_attention_forward(
                x, x, x, WIDTH, HEADS, a.in_proj_weight, a.in_proj_bias, None, None, False, 0.0,
                a.out_proj.weight, a.out_proj.bias, static_k=still, static_v=still,
            )[0]  # fmt: skip

    with pytest.raises(CaptureError, match="static_k"):
        observe(Static(), tokens())


def vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    return VisionTransformer(
        image_size=32, patch_size=16, num_layers=2, num_heads=4, hidden_dim=32, mlp_dim=64
    ).eval()


@pytest.mark.parametrize("differentiated", [False, True])
def test_the_vision_transformer_of_torchvision_is_untouched(differentiated: bool) -> None:
    module = vit()
    nn.init.normal_(module.heads.head.weight)
    x = torch.randn(2, 3, 32, 32)
    with torch.set_grad_enabled(differentiated):
        plain = module(x.clone().requires_grad_(differentiated)).detach()
    seen = observe(module, x, score=score if differentiated else None)
    assert torch.equal(seen.outputs, plain)
    names = [f"encoder.layers.encoder_layer_{i}.self_attention" for i in range(2)]
    assert [op.name for op in seen.operations] == names
    assert all(
        isinstance(op, AttentionOperation) and op.shape == (2, 4, 5, 5) for op in seen.operations
    )
    if differentiated:
        assert all(float(op.output_gradient.abs().max()) > 0 for op in seen.operations)
