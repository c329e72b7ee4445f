"""A model with test-time registers."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from visattn.adapters import find_adapter
from visattn.errors import ConfigError, ModelError
from visattn.models import Model, load_model
from visattn.registers.neurons import RegisterNeurons, neuron_readers

MARK = "test_time_registers"


@dataclass(frozen=True)
class Shift:
    """A hook before an MLP's second linear layer: moves neurons from patches to registers.

    Each image on its own: the register tokens get the neuron's entry of largest magnitude over all
    tokens, sign kept; patch tokens get 0; the tokens before the registers stay as they are.

    Attributes:
        neurons: indices of the layer's inputs.
        first: index of the first register token.
        registers: how many there are; patch tokens follow them.
    """

    neurons: tuple[int, ...]
    first: int
    registers: int

    def __call__(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Return the activations (batch, token, neuron) that the layer reads instead."""
        del module
        patches = self.first + self.registers
        before = inputs[0][..., self.neurons]
        strongest = before.gather(1, before.abs().argmax(dim=1, keepdim=True))
        registers = strongest.expand(-1, self.registers, -1)
        after = [before[:, : self.first], registers, torch.zeros_like(before[:, patches:])]
        moved = inputs[0].clone()
        moved[..., self.neurons] = torch.cat(after, dim=1)
        return moved


def with_test_time_registers(
    model: Model | nn.Module | str, found: RegisterNeurons, *, registers: int = 1
) -> Model:
    """Return a copy of a model in which extra tokens take over from high-norm patch tokens.

    ``registers`` tokens of zeros stand behind the class and trained register tokens and before the
    patches, so rotary embeddings, position embeddings (which they do not get), pooling and layout
    hold as for trained registers. At each of the ``found`` neurons, patch tokens are set to 0 and
    the extra tokens to the entry of largest magnitude; see `Shift`. With ``registers=0`` the
    neurons are only silenced at the patches; without neurons either, outputs stay the same bit for
    bit. The given model is not changed and shares no weights with the copy. Jiang et al., NeurIPS
    2025; their code appends the tokens at the end and handles one image at a time.

    Raises `ModelError` for a model that has no place for extra tokens, has test-time registers
    already, or lacks a neuron; `ConfigError` for a negative number of registers.
    """
    known = model if isinstance(model, Model) else load_model(model)
    if registers < 0:
        raise ConfigError(f"registers={registers!r} is negative.")
    if hasattr(known.module, MARK):
        raise ModelError(f"{known.name} has test-time registers already; wrap the original.")
    module: Any = copy.deepcopy(known.module)
    readers = neuron_readers(module)
    first = module.num_prefix_tokens
    if registers:
        _extend(module, registers)
    for block, neurons in found.by_block().items():
        _require(known, readers, block, neurons)
        readers[block].register_forward_pre_hook(Shift(neurons, first, registers))
    setattr(module, MARK, registers)
    what = f"{registers} test-time register{'' if registers == 1 else 's'}"
    return replace(
        known,
        module=module,
        adapter=find_adapter(module),
        name=f"{known.name} + {what}",
        source=f"{known.source}; {what}, neurons (block, index) {list(found.neurons)}",
    )


def _extend(module: Any, registers: int) -> None:
    """Give a vision transformer more register tokens: zeros, without position embedding."""
    weight = module.patch_embed.proj.weight
    zeros = weight.new_zeros(1, registers, module.embed_dim)
    prefix = module.num_prefix_tokens
    if module.pos_embed is not None and not module.no_embed_class:
        positions = module.pos_embed.detach()
        parts = [positions[:, :prefix], zeros, positions[:, prefix:]]
        module.pos_embed = _frozen(torch.cat(parts, dim=1))
    trained = [] if module.reg_token is None else [module.reg_token.detach()]
    module.reg_token = _frozen(torch.cat([*trained, zeros], dim=1))
    if hasattr(module, "num_reg_tokens"):
        module.num_reg_tokens += registers
    for part in module.modules():
        # Attention with rotary embedding and patch dropout keep a count of their own.
        if hasattr(part, "num_prefix_tokens"):
            part.num_prefix_tokens += registers


def _frozen(weight: torch.Tensor) -> nn.Parameter:
    return nn.Parameter(weight, requires_grad=False)


def _require(model: Model, readers: list[nn.Linear], block: int, neurons: tuple[int, ...]) -> None:
    if not 0 <= block < len(readers):
        raise ModelError(f"{model.name} has {len(readers)} blocks; there is no block {block}.")
    width = readers[block].in_features
    missing = [index for index in neurons if not 0 <= index < width]
    if missing:
        raise ModelError(
            f"Block {block} of {model.name} has {width} neurons; {missing} are not among them. "
            "Register neurons belong to the model they were calibrated on."
        )
