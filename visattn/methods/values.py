"""Values: what one attention operation's tokens write into the stream, head by head."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from visattn.errors import UnsupportedMethodError
from visattn.observation import AttentionOperation, wide
from visattn.observation.operation import BLOCK_BYTES


@dataclass(frozen=True, eq=False)
class Values:
    """``f_h(x_j) = s V_hj W_O^h``: value bias inside, output bias left out, s the LayerScale.

    The N H D numbers f are never stored: what methods need of them are norms and inner products.

    Attributes:
        value: V (batch, head, token, channel of the head), in float32 or wider.
        weight: s W_O (head, channel of the head, channel of the stream).
    """

    value: torch.Tensor
    weight: torch.Tensor

    @classmethod
    def of(cls, operation: AttentionOperation, scale: torch.Tensor | None) -> Values:
        """Return the values of an operation behind which ``scale`` (channel,) or nothing stands.

        Raises `UnsupportedMethodError` where no linear layer reads the heads side by side.
        """
        if operation.projection is None or operation.mixing is not None:
            raise UnsupportedMethodError(
                f"{operation.name} has no output projection that reads its heads as they are (a "
                "norm, a gate or a mixing of heads stands between), so what each of its values "
                "writes into the stream is not defined. Choose a method without value norms, such "
                "as rollout or gae."
            )
        value = wide(operation.value)
        weight = wide(operation.projection.detach()).to(value.dtype).T
        if scale is not None:
            weight = weight * scale.detach().to(weight)
        return cls(value, weight.reshape(value.shape[1], value.shape[3], -1))

    def norms(self) -> torch.Tensor:
        """Return ``|| sum_h f_h(x_j) ||`` (batch, token)."""
        lengths: torch.Tensor = torch.linalg.vector_norm(self.whole(), dim=-1)
        return lengths

    def whole(self) -> torch.Tensor:
        """Return ``sum_h f_h(x_j)`` (batch, token, channel)."""
        return torch.einsum("bhjc,hcd->bjd", self.value, self.weight)

    def head_norms(self) -> torch.Tensor:
        """Return ``|| f_h(x_j) ||`` (batch, head, token)."""
        own = self.weight @ self.weight.transpose(1, 2)
        return ((self.value @ own) * self.value).sum(dim=-1).clamp(min=0).sqrt()

    def along(self, tokens: torch.Tensor) -> torch.Tensor:
        """Return ``<f_h(x_j), t_j>`` (batch, head, token) for tokens t (batch, token, channel)."""
        pulled = torch.einsum("bjd,hcd->bhjc", tokens, self.weight)
        return (pulled * self.value).sum(dim=-1)

    def gram(self) -> torch.Tensor:
        """Return ``<f_h(x_j), f_g(x_j)>`` (batch, token, head, head)."""
        batch, heads, tokens, channels = self.value.shape
        flat = self.weight.flatten(0, 1)
        pairs = (flat @ flat.T).reshape(heads, channels, heads * channels)
        found = self.value.new_empty(batch, tokens, heads, heads)
        size = max(1, BLOCK_BYTES // (4 * batch * heads**2 * channels))
        for start in range(0, tokens, size):
            some = self.value[:, :, start : start + size]
            moved = (some @ pairs).reshape(*some.shape[:3], heads, channels)
            found[:, start : start + size] = torch.einsum("bhjgc,bgjc->bjhg", moved, some)
        return found

    def mixed(self, attn: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Return ``sum_h a_hj f_h(x_j)`` (batch, token, channel) of some ``tokens`` (token,).

        ``attn`` (batch, head, token).
        """
        weighted = attn[..., None] * self.value[:, :, tokens]
        return torch.einsum("bhjc,hcd->bjd", weighted, self.weight)
