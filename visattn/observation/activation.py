"""Activations read at named places of a module tree."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from visattn.adapters import Site
from visattn.errors import CaptureError


@dataclass(frozen=True, eq=False)
class Activation:
    """A tensor that a model computed, and the derivative of the explained score by it.

    Attributes:
        site: where it was read.
        value: the tensor, axes as `Site.axes` says; without the channels where norms were asked.
        gradient: the same shape, or None where no score was explained or norms were asked.
    """

    site: Site
    value: torch.Tensor
    gradient: torch.Tensor | None = None


@contextmanager
def reading(module: nn.Module, sites: Sequence[Site]) -> Iterator[dict[Site, torch.Tensor]]:
    """Yield a dictionary that fills with the activation of each site when the module runs.

    The model goes on with a copy of what is read, because layers behind may overwrite it in place;
    the copy has the same values, so the outputs are the same bit for bit. Hooks are removed on
    every exit. Raises `CaptureError` for a name that is not in the module.
    """
    found: dict[Site, torch.Tensor] = {}
    parts = dict(module.named_modules())
    with ExitStack() as handles:
        for site in sites:
            if site.module not in parts:
                raise CaptureError(f"{type(module).__name__} has no module {site.module!r}.")
            handle = _hook(parts[site.module], site, found)
            handles.callback(handle.remove)
        yield found


def _hook(part: nn.Module, site: Site, found: dict[Site, torch.Tensor]) -> Any:
    def keep(value: Any) -> Any:
        if site in found:
            raise CaptureError(
                f"{site.module} ran several times in one pass, so it is not clear which of its "
                "activations to read."
            )
        tensor = _tensor(value, site)
        found[site] = _norms(tensor, site) if site.norm else tensor
        return None if site.norm else _copied(value, tensor)

    if site.side == "output":
        return part.register_forward_hook(lambda _, __, output: keep(output))
    return part.register_forward_pre_hook(lambda _, inputs: keep(inputs))


def _copied(value: Any, tensor: torch.Tensor) -> Any:
    """Return what a module was given or gives back, with its first tensor copied."""
    if value is tensor:
        return tensor.clone()
    rest = (tensor.clone(), *value[1:])
    if isinstance(value, list):
        return list(rest)
    return type(value)(*rest) if hasattr(value, "_fields") else rest


def _tensor(value: Any, site: Site) -> torch.Tensor:
    first = value[0] if isinstance(value, (tuple, list)) and value else value
    if not isinstance(first, torch.Tensor):
        raise CaptureError(f"The {site} is a {type(first).__name__}, not a tensor.")
    return first


def _norms(value: torch.Tensor, site: Site) -> torch.Tensor:
    """Return the Euclidean norm over channels, in at least float32."""
    wide = value.detach().to(torch.promote_types(value.dtype, torch.float32))
    found: torch.Tensor = torch.linalg.vector_norm(
        wide, dim=1 if site.axes == "channels_first" else -1
    )
    return found
