"""A vision transformer a second time: unfused, float64, its detached parts written out.

Weights are read from a timm ``VisionTransformer``; formulas are those of the papers. Nothing here
uses visattn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

Branch = Callable[[torch.Tensor], torch.Tensor]


def cst(tensor: torch.Tensor) -> torch.Tensor:
    """[.]cst of the papers."""
    return tensor.detach()


def halved(tensor: torch.Tensor) -> torch.Tensor:
    return tensor / 2 + cst(tensor) / 2


@dataclass
class Explicit:
    """One image through the transformer of ``vit``.

    ``attention``: plain, value or half; ``norm``: plain or detached; ``activation``: plain or gate;
    ``gamma`` of linear layers on tokens, ``gamma_patches`` of the patch embedding.
    Additive constants are leaves of their own at every token, kept in ``constants`` under the
    block (or other part) that adds them.
    """

    vit: Any
    attention: str = "plain"
    norm: str = "plain"
    activation: str = "plain"
    gamma: float = 0.0
    gamma_patches: float = 0.0
    constants: dict[str, list[torch.Tensor]] = field(default_factory=dict)
    outputs: list[torch.Tensor] = field(default_factory=list)
    place: str = ""

    def constant(self, values: torch.Tensor, tokens: int) -> torch.Tensor:
        leaf = values.detach().expand(tokens, -1).clone().requires_grad_()
        self.constants.setdefault(self.place, []).append(leaf)
        return leaf

    def linear(self, x: torch.Tensor, layer: Any) -> torch.Tensor:
        return self.shared(x, layer.weight.detach(), layer.bias, self.gamma)

    def shared(
        self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, gamma: float
    ) -> torch.Tensor:
        """``x W + b``; with gamma every contribution is written out and raised by its sign."""
        product = x @ weight.T
        constant = None if bias is None else self.constant(bias, len(x))
        output = product if constant is None else product + constant
        if not gamma:
            return output
        parts = [x[:, None] * weight] + ([] if constant is None else [constant[..., None]])
        found = torch.cat(parts, dim=-1)
        with_sign = torch.where(output[..., None] >= 0, found.clamp(min=0), found.clamp(max=0))
        raised = (found + gamma * with_sign).sum(-1)
        return raised * cst(output / raised)

    def normed(self, x: torch.Tensor, layer: Any) -> torch.Tensor:
        if isinstance(layer, torch.nn.Identity):
            return x
        std = (x.var(-1, unbiased=False, keepdim=True) + layer.eps).sqrt()
        std = cst(std) if self.norm == "detached" else std
        centred = x - x.mean(-1, keepdim=True)
        return layer.weight.detach() * centred / std + self.constant(layer.bias, len(x))

    def attended(self, x: torch.Tensor, attn: Any) -> torch.Tensor:
        tokens, width = x.shape
        qkv = self.linear(x, attn.qkv).reshape(tokens, 3, attn.num_heads, -1).permute(1, 2, 0, 3)
        query, key, value = qkv
        scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])
        scores = halved(scores) if self.attention == "half" else scores
        weights = scores.softmax(-1)
        weights = cst(weights) if self.attention == "value" else weights
        output = weights @ value
        output = halved(output) if self.attention == "half" else output
        self.outputs.append(output)
        return self.linear(output.transpose(0, 1).reshape(tokens, width), attn.proj)

    def activated(self, x: torch.Tensor) -> torch.Tensor:
        gate = 0.5 * (1 + torch.erf(x / math.sqrt(2)))
        return x * (cst(gate) if self.activation == "gate" else gate)

    def attention_branch(self, x: torch.Tensor, block: Any) -> torch.Tensor:
        return scale(block.ls1) * self.attended(self.normed(x, block.norm1), block.attn)

    def mlp_branch(self, x: torch.Tensor, block: Any) -> torch.Tensor:
        hidden = self.activated(self.linear(self.normed(x, block.norm2), block.mlp.fc1))
        return scale(block.ls2) * self.linear(hidden, block.mlp.fc2)

    def branches(self) -> list[tuple[str, Branch]]:
        """The residual branches in order, each with the name of its block."""
        return [
            (f"blocks.{index}", partial(part, block=block))
            for index, block in enumerate(self.vit.blocks)
            for part in (self.attention_branch, self.mlp_branch)
        ]

    def patches(self, image: torch.Tensor) -> torch.Tensor:
        """Patch embedding as a matrix product on cut-out patches (token, channel)."""
        layer, side = self.vit.patch_embed.proj, self.vit.patch_embed.patch_size[0]
        cut = image.unfold(1, side, side).unfold(2, side, side).permute(1, 2, 0, 3, 4)
        weight = layer.weight.detach().flatten(1)
        cut = cut.reshape(-1, weight.shape[1])
        return self.shared(cut, weight, layer.bias, self.gamma_patches)

    def embedded(self, image: torch.Tensor) -> torch.Tensor:
        """Tokens that enter the first block."""
        vit, tokens, self.place = self.vit, self.patches(image), "embedding"
        prefix = [p[0] for p in (vit.cls_token, vit.reg_token) if p is not None]
        positions = vit.pos_embed[0]
        if vit.no_embed_class or not prefix:
            tokens = tokens + self.constant(positions, len(tokens))
            return torch.cat([*(self.constant(p, len(p)) for p in prefix), tokens])
        tokens = torch.cat([*(self.constant(p, len(p)) for p in prefix), tokens])
        return tokens + self.constant(positions, len(tokens))

    def head(self, x: torch.Tensor) -> torch.Tensor:
        """Outputs (class,) from the tokens behind the last block."""
        vit, self.place = self.vit, "head"
        x = self.normed(x, vit.norm)
        if vit.global_pool == "token":
            x = x[:1]
        else:
            x = x[0 if vit.pool_include_prefix else vit.num_prefix_tokens :].mean(0, keepdim=True)
        x = self.normed(x, vit.fc_norm)
        if isinstance(vit.head, torch.nn.Identity):
            return x[0]
        return self.shared(x, vit.head.weight.detach(), vit.head.bias, gamma=0.0)[0]

    def run(self, image: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
        """Tokens that enter each block, and the outputs."""
        x, entries = self.embedded(image), []
        for index, (name, branch) in enumerate(self.branches()):
            self.place = name
            if index % 2 == 0:
                entries.append(x)
            x = x + branch(x)
        return entries, self.head(x)


def scale(layer: Any) -> torch.Tensor | float:
    return layer.gamma.detach() if hasattr(layer, "gamma") else 1.0


def relevance_of_tokens(model: Explicit, image: torch.Tensor, gamma: float) -> torch.Tensor:
    """ResLRP (token, channel) at the first block's entry, from relevance to relevance.

    Every residual sum is split by the paper's formula; through a branch f relevance goes as
    ``x * J_f^T (R / f(x))``, the epsilon rule with epsilon -> 0 of its detached linear form.
    """
    with torch.no_grad():
        x, entries, updates = model.embedded(image), [], []
        for _, branch in model.branches():
            entries.append(x)
            updates.append(branch(x))
            x = x + updates[-1]
    last = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model.head(last).max(), last)
    relevance = x * gradient
    for (_, branch), entry, update in zip(
        reversed(model.branches()), reversed(entries), reversed(updates), strict=True
    ):
        total = entry + update
        weigh = [1 + gamma * (z.sign() == total.sign()) for z in (entry, update)]
        divisor = weigh[0] * entry + weigh[1] * update
        kept = weigh[0] * entry / divisor * relevance
        passed = weigh[1] * update / divisor * relevance
        leaf = entry.clone().requires_grad_()
        (pulled,) = torch.autograd.grad(branch(leaf), leaf, passed / update)
        relevance = kept + entry * pulled
    return relevance
