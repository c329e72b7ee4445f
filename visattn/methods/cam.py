"""What class activation maps share: one activation, its gradient, and the grid they lie on."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from visattn.adapters import Adapter, Refusal, Site
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.method import Maps, Method
from visattn.observation import AttentionRecord, wide


@dataclass(frozen=True)
class ActivationMap(Method):
    """Class activation map at the family's default site (`Adapter.cam_site`).

    For convolutional networks that is the feature map that enters the global pool; for plain
    transformers the patch tokens that enter the last attention, because behind the last block
    patch tokens of a class-token model have a gradient of exactly zero. ``layer`` names another
    module whose output is taken instead.
    """

    class_specific: ClassVar[bool] = True
    gradients: ClassVar[bool] = True
    memory: ClassVar[str] = "C P"
    applies: ClassVar[str] = "CNN stages, tokens of transformers"

    layer: str | None = None

    @abstractmethod
    def combine(self, values: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
        """Return (batch, row, col) from activation and gradient (batch, channel, row, col)."""

    def sites(self, adapter: Adapter) -> tuple[Site, ...]:
        """Return the one site of the map."""
        default = adapter.cam_site()
        if self.layer is not None:
            axes = "channels_first" if isinstance(default, Refusal) else default.axes
            return (Site(self.layer, "output", axes),)
        return () if isinstance(default, Refusal) else (default,)

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why the family has no site, or None."""
        del size
        default = adapter.cam_site()
        return default.reason if isinstance(default, Refusal) and self.layer is None else None

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the combined map; raises where the gradient is zero by construction."""
        del geometries
        (site,) = self.sites(record.adapter)
        activation = record.activations[site]
        if activation.gradient is None:
            raise UnsupportedMethodError(f"The {site} was observed without gradients.")
        trusted = self.layer is None
        values, cell = _channels_first(record, site, wide(activation.value), trusted)
        gradients, _ = _channels_first(record, site, wide(activation.gradient), trusted)
        if self.layer is not None and not gradients.any():
            raise UnsupportedMethodError(
                f"The score does not depend on the spatial part of the {site}: its gradient is "
                f"exactly zero. Use the {record.adapter.cam_site()}."
            )
        return Maps(self.combine(values, gradients), cell, facts={"layer": str(site)})


Cell = tuple[float, float] | None


def _channels_first(
    record: AttentionRecord, site: Site, tensor: torch.Tensor, trusted: bool
) -> Any:
    """Return (batch, channel, row, col) and the size of its cells.

    What an adapter declares is ``trusted`` where the shape cannot tell (maps that a model squashed
    to another aspect); of a layer that a user named the axes must fit the input.
    """
    if tensor.ndim not in (3, 4) or tensor.shape[0] != record.batch:
        raise _misread(record, site, tensor)
    if tensor.ndim == 3 or site.axes == "tokens":
        return _from_tokens(record, site, tensor)
    if _is_channels_last(record, site, tensor, trusted):
        tensor = tensor.permute(0, 3, 1, 2)
    return tensor, _cell(record, tensor)


def _is_channels_last(
    record: AttentionRecord, site: Site, tensor: torch.Tensor, trusted: bool
) -> bool:
    channels = record.adapter.num_features
    first, last = (_is_map(tensor.shape[s], record.size) for s in (slice(2, 4), slice(1, 3)))
    if trusted and channels is not None:
        first, last = (tensor.shape[axis] == channels for axis in (1, 3))
    if first == last and not trusted:
        raise _misread(record, site, tensor)
    return last if first != last else site.axes == "channels_last"


def _is_map(grid: Sequence[int], size: Size) -> bool:
    """Return whether ``grid`` (row, col) can be what one whole stride leaves of an input."""
    strides = [round(extent / cells) for extent, cells in zip(size, grid, strict=True) if cells]
    near = {stride + more for stride in strides for more in (-1, 0, 1)}
    return any(
        all(
            cells in (extent // stride, -(-extent // stride), extent // stride + 1)
            for extent, cells in zip(size, grid, strict=True)
        )
        for stride in near
        if stride > 0
    )


def _cell(record: AttentionRecord, tensor: torch.Tensor) -> Cell:
    """Return the cells of the family's last grid where the map has it, else equal parts."""
    layout = record.adapter.layout(record.size)
    if isinstance(layout, Refusal) or tuple(tensor.shape[2:]) != tuple(layout.grid):
        return None
    return layout.cell


def _from_tokens(record: AttentionRecord, site: Site, tensor: torch.Tensor) -> Any:
    layout = record.adapter.layout(record.size)
    if isinstance(layout, Refusal):
        raise UnsupportedMethodError(f"{layout.reason}.")
    if tensor.ndim != 3 or tensor.shape[1] != layout.tokens:
        raise UnsupportedMethodError(
            f"The {site} has shape {tuple(tensor.shape)}; (batch, {layout.tokens}, channel) is "
            "needed."
        )
    patches = tensor[:, layout.places].transpose(1, 2)
    return patches.reshape(*patches.shape[:2], *layout.grid), layout.cell


def _misread(record: AttentionRecord, site: Site, tensor: torch.Tensor) -> UnsupportedMethodError:
    return UnsupportedMethodError(
        f"The {site} has shape {tuple(tensor.shape)}, which is not a feature map of a batch of "
        f"{record.batch} with inputs of {record.size.height} x {record.size.width}; name a module "
        "whose output is (batch, channel, row, col), (batch, row, col, channel) or (batch, token, "
        f"channel), such as the {record.adapter.cam_site()}."
    )
