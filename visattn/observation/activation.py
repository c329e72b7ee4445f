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


@dataclass(frozen=True, eq=False)
class Reading:
    """What a hook read of a tensor, as it was then: layers behind may overwrite it in place.

    Attributes:
        site: where it was read.
        value: a copy; without the channels where norms were asked.
        edge: its place in the graph, where gradients are taken; None outside of one.
        tensor: the model's own tensor in the graph, or None outside of one.
        version: how often it had been written to.
    """

    site: Site
    value: torch.Tensor
    edge: Any = None
    tensor: torch.Tensor | None = None
    version: int = 0

    def live(self) -> torch.Tensor:
        """Return the model's own tensor in the graph.

        Raises `CaptureError` where it was overwritten since, or is in no graph.
        """
        if self.tensor is None or writes(self.tensor) != self.version:
            what = "is in no graph" if self.tensor is None else "was overwritten in place"
            raise CaptureError(
                f"The {self.site} {what}, so that it cannot be differentiated further; use a "
                "method that reads it once."
            )
        return self.tensor


def writes(tensor: torch.Tensor) -> int:
    """Return how often a tensor's memory was written to; torch has no public name for it."""
    return int(tensor._version)  # noqa: SLF001


@contextmanager
def reading(module: nn.Module, sites: Sequence[Site]) -> Iterator[dict[Site, Reading]]:
    """Yield a dictionary that fills with the activation of each site when the module runs.

    Hooks are removed on every exit. Raises `CaptureError` for a name that is not in the module.
    """
    found: dict[Site, Reading] = {}
    parts = dict(module.named_modules())
    with ExitStack() as handles:
        for site in sites:
            if site.module not in parts:
                raise CaptureError(f"{type(module).__name__} has no module {site.module!r}.")
            handle = _hook(parts[site.module], site, found)
            handles.callback(handle.remove)
        yield found


def _hook(part: nn.Module, site: Site, found: dict[Site, Reading]) -> Any:
    def keep(value: Any) -> None:
        if site in found:
            raise CaptureError(
                f"{site.module} ran several times in one pass, so it is not clear which of its "
                "activations to read."
            )
        found[site] = _read(_tensor(value, site), site)

    if site.side == "output":
        return part.register_forward_hook(lambda _, __, output: keep(output))
    return part.register_forward_pre_hook(lambda _, inputs: keep(inputs))


def _read(tensor: torch.Tensor, site: Site) -> Reading:
    if site.norm:
        return Reading(site, _norms(tensor, site))
    copy = tensor.detach().clone()
    if not tensor.requires_grad:
        return Reading(site, copy)
    edge = torch.autograd.graph.get_gradient_edge(tensor)
    return Reading(site, copy, edge, tensor, writes(tensor))


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
