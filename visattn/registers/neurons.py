"""Neurons of a vision transformer's MLPs, and those that make high-norm tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from visattn.adapters.recognition import is_instance
from visattn.errors import ModelError

HOMES = {"timm.models.vision_transformer": "VisionTransformer", "timm.models.eva": "Eva"}
ASSEMBLY = "_pos_embed"


@dataclass(frozen=True)
class RegisterNeurons:
    """The neurons that write high-norm tokens, strongest first.

    Attributes:
        neurons: (block, index) of each; the index counts the inputs of the MLP's second linear
            layer.
        scores: mean absolute activation of each at the high-norm tokens.
        layer: block (0 = first) at whose output the high-norm tokens were found.
        threshold: norm beyond which a token counted, None for median + 5 * 1.4826 MAD.
        tokens: number of high-norm tokens found.
        images: number of images that had any.
    """

    neurons: tuple[tuple[int, int], ...]
    scores: tuple[float, ...]
    layer: int
    threshold: float | None
    tokens: int
    images: int

    def by_block(self) -> dict[int, tuple[int, ...]]:
        """Return the indices of the neurons of each block that has any."""
        blocks = sorted({block for block, _ in self.neurons})
        return {b: tuple(index for block, index in self.neurons if block == b) for b in blocks}


def neuron_readers(module: nn.Module) -> list[nn.Linear]:
    """Return the linear layer of each block whose inputs are the block's neurons.

    A neuron is one input of the MLP's second linear layer: the activated (and, in gated MLPs,
    multiplied) value that scales one column of its weights. Raises `ModelError`, with the reason,
    for a module that is no plain vision transformer of timm or has other MLPs.
    """
    reason = _not_plain(module)
    if reason:
        raise ModelError(f"Test-time registers do not apply to {type(module).__name__}: {reason}.")
    found = []
    for index, block in enumerate(_blocks(module)):
        reader = getattr(getattr(block, "mlp", None), "fc2", None)
        if not isinstance(reader, nn.Linear):
            raise ModelError(
                f"Test-time registers do not apply to {type(module).__name__}: blocks.{index} "
                f"({type(block).__name__}) has no mlp.fc2 whose inputs are its neurons."
            )
        found.append(reader)
    return found


def _blocks(module: Any) -> Any:
    return module.blocks


def _not_plain(module: nn.Module) -> str | None:
    for home, name in HOMES.items():
        if is_instance(module, home, name):
            base = next(kind for kind in type(module).__mro__ if kind.__module__ == home)
            if getattr(base, ASSEMBLY) is getattr(type(module), ASSEMBLY):
                return None
            return "its class puts its tokens together in its own way, without register tokens"
    return (
        "extra tokens need a sequence of tokens that attends to itself as a whole, without windows "
        "or relative position bias (timm's VisionTransformer and Eva classes)"
    )
