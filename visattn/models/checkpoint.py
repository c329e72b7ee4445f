"""Checkpoint files as state dicts, and the module that they must fit exactly."""

from __future__ import annotations

from pathlib import Path

import torch
from timm.models import load_state_dict
from torch import nn

from visattn.errors import ModelError, WeightsError

ONNX = "an ONNX graph, which has no modules whose attention could be observed"
EXPORTED = "an exported program, whose operations cannot be observed"


def refuse_graph(path: Path) -> None:
    """Raise `ModelError` for files that hold a graph instead of weights."""
    kind = {".onnx": ONNX, ".pt2": EXPORTED}.get(path.suffix.lower())
    if kind:
        raise ModelError(
            f"{path} is {kind}; build the original nn.Module and give its weights as "
            "weights='file.safetensors' or '.pth'."
        )


def read_checkpoint(path: Path) -> dict[str, torch.Tensor]:
    """Return the state dict in a ``.safetensors`` or ``.pth`` file.

    Wrapper prefixes (``module.``) are taken off, and a state dict is found under the usual keys of
    a training checkpoint. Nothing in a pickle is executed. Raises `WeightsError` when there is no
    such file or it holds something else, `ModelError` for ONNX and exported graphs.
    """
    refuse_graph(path)
    if not path.is_file():
        raise WeightsError(f"There is no checkpoint {path}.")
    try:
        state = load_state_dict(str(path))
    except Exception as error:
        reason = str(error).split("\n", 1)[0]
        raise WeightsError(
            f"{path} is not a file of weights ({type(error).__name__}: {reason}); save "
            "module.state_dict() of the original module."
        ) from error
    return dict(state)


def fill(module: nn.Module, state: dict[str, torch.Tensor], path: Path) -> None:
    """Load a state dict; raises `WeightsError` unless names and shapes are all the module's."""
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        told = [line.strip() for line in str(error).splitlines()[1:3]]
        raise WeightsError(
            f"{path} does not fit {type(module).__name__}: {' '.join(told)[:400]}"
        ) from error


def classes_in(state: dict[str, torch.Tensor], module: nn.Module) -> int | None:
    """Return how many classes a checkpoint has, read off the module's last linear layer."""
    linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    weight = state.get(f"{linear[-1]}.weight") if linear else None
    return None if weight is None else int(weight.shape[0])
