"""Multi-head attention in one call: ``torch.nn.functional.multi_head_attention_forward``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from visattn.errors import CaptureError
from visattn.observation.call import Call
from visattn.observation.following import Operands
from visattn.observation.operation import wide
from visattn.observation.product import Product
from visattn.observation.recovery import TOLERANCE

if TYPE_CHECKING:
    from visattn.observation.observer import Observer

SIGNATURE = inspect.signature(functional.multi_head_attention_forward)
SINGLE = 1e-4


def multihead(observer: Observer, call: Call) -> None:
    """Record one call: its heads are computed again from its arguments and checked."""
    bound = SIGNATURE.bind(*call.args, **call.kwargs)
    bound.apply_defaults()
    heads_of = Multihead(observer.caller()[0], bound.arguments, call.result[0])
    heads_of.require_readable()
    with torch.no_grad():
        operands, value = heads_of.operands()
        heads = functional.scaled_dot_product_attention(
            operands.query, operands.key, value, attn_mask=operands.bias
        )
        heads_of.require_output(heads)
    observer.record(
        Product(operands.query, value, heads, heads_of.gradient),
        operands,
        live=call.result[0],
        bring=heads_of.gradient,
        projection=bound.arguments["out_proj_weight"].detach(),
    )


@dataclass(frozen=True)
class Multihead:
    """Arguments of one call of ``multi_head_attention_forward`` by name, and its output."""

    name: str
    given: Mapping[str, Any]
    output: torch.Tensor

    def require_readable(self) -> None:
        """Raise `CaptureError` for arguments that are not understood."""
        if self.given["dropout_p"] and self.given["training"]:
            raise CaptureError(
                f"{self.name}: attention with dropout {self.given['dropout_p']} is not "
                "deterministic; put the model into eval mode."
            )
        if self.given["static_k"] is not None or self.given["static_v"] is not None:
            raise CaptureError(
                f"{self.name}: static_k and static_v of multi_head_attention_forward are not "
                "observed; project the keys and values in the module instead."
            )

    def operands(self) -> tuple[Operands, torch.Tensor]:
        """Return query, key and mask, and the value, (batch, head, token, channel)."""
        query, key, value = self._projected()
        extra = 0
        if self.given["bias_k"] is not None:
            key, value = (
                torch.cat([part, self.given[name].expand(1, part.shape[1], -1)])
                for part, name in ((key, "bias_k"), (value, "bias_v"))
            )
            extra += 1
        if self.given["add_zero_attn"]:
            key, value = (torch.cat([p, p.new_zeros(1, *p.shape[1:])]) for p in (key, value))
            extra += 1
        query, key, value = (self._heads(part) for part in (query, key, value))
        bias = self._bias(query, extra)
        operands = Operands(query, key, query.shape[-1] ** -0.5, bias, self.output.dtype)
        return operands, value

    def _projected(self) -> list[torch.Tensor]:
        if self.given["use_separate_proj_weight"]:
            weights = [self.given[f"{name}_proj_weight"] for name in "qkv"]
        else:
            weights = list(self.given["in_proj_weight"].chunk(3))
        bias = self.given["in_proj_bias"]
        biases = [None] * 3 if bias is None else list(bias.chunk(3))
        tensors = [self._batched(self.given[name]) for name in ("query", "key", "value")]
        return [
            functional.linear(tensor, weight, b)
            for tensor, weight, b in zip(tensors, weights, biases, strict=True)
        ]

    def _batched(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach() if tensor.ndim == 3 else tensor.detach().unsqueeze(1)

    def _heads(self, tensor: torch.Tensor) -> torch.Tensor:
        """(token, batch, head * channel) -> (batch, head, token, channel)."""
        heads: int = self.given["num_heads"]
        return tensor.reshape(*tensor.shape[:2], heads, -1).permute(1, 2, 0, 3)

    def _bias(self, query: torch.Tensor, extra: int) -> torch.Tensor | None:
        mask, padding = self.given["attn_mask"], self.given["key_padding_mask"]
        batch, heads = query.shape[:2]
        found = None
        if mask is not None:
            found = _additive(mask, query.dtype)
            if found.ndim == 3:
                found = found.reshape(batch, heads, *found.shape[-2:])
        if padding is not None:
            hidden = _additive(padding, query.dtype)
            hidden = hidden.reshape(batch, 1, 1, -1)
            found = hidden if found is None else found + hidden
        return found if found is None or not extra else _padded(found, extra)

    def merged(self, heads: torch.Tensor) -> torch.Tensor:
        """Return (batch, head, token, channel) as (token, batch, head * channel)."""
        return heads.permute(2, 0, 1, 3).flatten(-2)

    def require_output(self, heads: torch.Tensor) -> None:
        """Raise `CaptureError` unless the projected heads are the output."""
        if self.output.is_meta:
            return
        weight, bias = self.given["out_proj_weight"], self.given["out_proj_bias"]
        again = functional.linear(self.merged(heads), weight, bias).reshape(self.output.shape)
        own = self.output.detach()
        error = float((wide(again) - wide(own)).abs().max())
        limit = TOLERANCE.get(own.dtype, SINGLE) * max(float(wide(own).abs().max()), 1e-30)
        if not (error <= limit or bool(own.isnan().any())):
            raise CaptureError(
                f"{self.name}: the heads computed again from the arguments of "
                f"multi_head_attention_forward differ by {error:.1e} from its output."
            )

    def gradient(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the gradient by the heads, ``dO = dY W_out``, of one by the output."""
        weight = self.given["out_proj_weight"].detach()
        return self._heads(self._batched(gradient) @ weight)


def _padded(bias: torch.Tensor, extra: int) -> torch.Tensor:
    """Return the bias with ``extra`` keys that are not masked."""
    return torch.cat([bias, bias.new_zeros(*bias.shape[:-1], extra)], dim=-1)


def _additive(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return a mask as something to add to scores: True means minus infinity."""
    if mask.dtype != torch.bool:
        return mask.detach().to(dtype)
    zeros = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return zeros.masked_fill(mask, float("-inf"))
