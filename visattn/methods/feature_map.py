"""FeatureMap: an activation on its grid, with the gradient of the score by it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from visattn.adapters import Adapter, Refusal, Site
from visattn.errors import UnsupportedMethodError
from visattn.images import Size
from visattn.observation import AttentionRecord, wide
from visattn.tokens.layout import TokenLayout

Cell = tuple[float, float] | None

# Modules whose attributes say how many channels enter and leave them.
EXTENTS: dict[type[nn.Module], tuple[str, str]] = {
    nn.Conv2d: ("in_channels", "out_channels"),
    nn.Linear: ("in_features", "out_features"),
    nn.BatchNorm2d: ("num_features", "num_features"),
    nn.LayerNorm: ("normalized_shape", "normalized_shape"),
}


@dataclass(frozen=True, eq=False)
class Axes:
    """Where the channels and positions of a map lie in the activation of a model.

    Attributes:
        kind: ``tokens``, ``channels_first`` or ``channels_last``, as `Site.axes`.
        layout: what the tokens mean; None for feature maps.
    """

    kind: str
    layout: TokenLayout | None = None

    def to_map(self, activation: torch.Tensor) -> torch.Tensor:
        """Return (batch, channel, row, col) of an activation; tokens lose their prefix."""
        if self.layout is not None:
            patches = activation[:, self.layout.places].transpose(1, 2)
            return patches.reshape(*patches.shape[:2], *self.layout.grid)
        return activation if self.kind == "channels_first" else activation.permute(0, 3, 1, 2)

    def without(self, activation: torch.Tensor, channels: torch.Tensor) -> torch.Tensor:
        """Return copies of one image's activation, each with one channel zero on the whole map.

        ``activation`` (1, ...) or (copy, ...), ``channels`` (copy,); -1 leaves a copy as it is.
        Tokens that lie nowhere on the map, such as the class token, keep the channel.
        """
        copies = activation.expand(len(channels), *activation.shape[1:]).clone()
        rows = (channels >= 0).nonzero()[:, 0]
        zeroed = channels[rows]
        if self.layout is not None:
            copies[rows, self.layout.places, zeroed] = 0
        elif self.kind == "channels_first":
            copies[rows, zeroed] = 0
        else:
            copies[rows, :, :, zeroed] = 0
        return copies


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """The activation of a site as maps (batch, channel, row, col), in float32 or wider.

    Attributes:
        site: where it was read.
        axes: where the maps lie in the model's own tensor.
        values: the activation X.
        gradients: the derivative g of the explained score by ``values``, or None.
        cell: height and width of a cell in input pixels; None where the grid covers the input.
    """

    site: Site
    axes: Axes
    values: torch.Tensor
    gradients: torch.Tensor | None
    cell: Cell

    @classmethod
    def of(cls, record: AttentionRecord, site: Site, trusted: bool) -> FeatureMap:
        """Return the maps of a site.

        What an adapter declares is ``trusted`` where the shape cannot tell (maps that a model
        squashed to another aspect); of a layer that a user named the axes must fit the input.
        Raises `UnsupportedMethodError` where the activation is no map of the input.
        """
        activation = record.activations[site]
        axes = _axes(record, site, activation.value, trusted)
        values, gradient = wide(axes.to_map(activation.value)), activation.gradient
        slopes = None if gradient is None else wide(axes.to_map(gradient))
        return cls(site, axes, values, slopes, _cell(record, axes, values))


def channels_at(adapter: Adapter, site: Site) -> int | None:
    """Return how many channels a site has, as far as it can be told without running the model.

    The module says it itself where it is a convolution, a linear layer or a norm, or a block of
    tokens with norms; of the site of `Adapter.cam_site` the adapter may know it.
    """
    part = dict(adapter.module.named_modules()).get(site.module)
    for kind, names in EXTENTS.items():
        if isinstance(part, kind):
            found = getattr(part, names[site.side == "output"])
            return int(found[-1] if isinstance(found, tuple) else found)
    children = [] if part is None else list(part.named_children())
    scales = [getattr(child, "weight", None) for name, child in children if "norm" in name]
    widths = [scale.numel() for scale in scales if isinstance(scale, torch.Tensor)]
    if site.axes == "tokens" and widths:
        return widths[0]
    return adapter.num_features if site == adapter.cam_site() else None


def _axes(record: AttentionRecord, site: Site, tensor: torch.Tensor, trusted: bool) -> Axes:
    if tensor.ndim not in (3, 4) or tensor.shape[0] != record.batch:
        raise _misread(record, site, tensor)
    if tensor.ndim == 3 or site.axes == "tokens":
        return Axes("tokens", _layout(record, site, tensor))
    last = _is_channels_last(record, site, tensor, trusted)
    return Axes("channels_last" if last else "channels_first")


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


def _cell(record: AttentionRecord, axes: Axes, values: torch.Tensor) -> Cell:
    """Return the cells of the family's last grid where the map has it, else equal parts."""
    layout = axes.layout or record.adapter.layout(record.size)
    if isinstance(layout, Refusal) or tuple(values.shape[2:]) != tuple(layout.grid):
        return None
    return layout.cell


def _layout(record: AttentionRecord, site: Site, tensor: torch.Tensor) -> TokenLayout:
    layout = record.adapter.layout(record.size)
    if isinstance(layout, Refusal):
        raise UnsupportedMethodError(f"{layout.reason}.")
    if tensor.ndim != 3 or tensor.shape[1] != layout.tokens:
        raise UnsupportedMethodError(
            f"The {site} has shape {tuple(tensor.shape)}; (batch, {layout.tokens}, channel) is "
            "needed."
        )
    return layout


def _misread(record: AttentionRecord, site: Site, tensor: torch.Tensor) -> UnsupportedMethodError:
    return UnsupportedMethodError(
        f"The {site} has shape {tuple(tensor.shape)}, which is not a feature map of a batch of "
        f"{record.batch} with inputs of {record.size.height} x {record.size.width}; name a module "
        "whose output is (batch, channel, row, col), (batch, row, col, channel) or (batch, token, "
        f"channel), such as the {record.adapter.cam_site()}."
    )
