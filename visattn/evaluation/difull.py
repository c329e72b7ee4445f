"""DiFull: a convolutional network cut apart at the tiles of a mosaic, head by head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from visattn.adapters import Refusal, Site
from visattn.adapters.convnet import ConvNetAdapter
from visattn.errors import UnsupportedMethodError
from visattn.models import Model


class Disconnected(nn.Module):
    """A network whose head sees one tile of a mosaic, through features of that tile alone.

    Tiles run through the network as a batch of their own, so that no convolution and no gate
    reaches from one into another. Their last feature maps are put together as the map of the whole
    mosaic, which is where class activation maps read it (``global_pool``); what follows reads the
    part of one tile. The score provably depends on nothing outside of that tile.

    Rao, Boehle & Schiele, CVPR 2022.

    Attributes:
        network: the convolutional network, which is left as it is.
        site: its feature map that enters the head, (batch, channel, row, col).
        tile: number of the tile whose head this is, row by row.
        side: tiles in a row.
    """

    def __init__(self, network: Any, adapter: ConvNetAdapter, site: Site, tile: int, side: int):
        super().__init__()
        self.network, self.site, self.tile, self.side = network, site, tile, side
        # What adapters read of a network.
        self.global_pool = nn.Identity()
        self.num_classes, self.num_features = adapter.num_classes, adapter.num_features
        self.feature_info = getattr(network, "feature_info", None)

    def forward(self, mosaics: torch.Tensor) -> Any:
        """Return the network's outputs (batch, ...) of one tile of mosaics."""
        with self._joined():
            return self.network(cut(mosaics, self.side))

    def _own(self, features: torch.Tensor) -> torch.Tensor:
        """Return the feature maps of the head's tile, read from those of the whole mosaics."""
        whole = self.global_pool(joined(features, self.side))
        return cut(whole, self.side)[self.tile :: self.side**2]

    @contextmanager
    def _joined(self) -> Iterator[None]:
        part = self.network.get_submodule(self.site.module)
        if self.site.side == "input":
            handle = part.register_forward_pre_hook(lambda _, inputs: self._own(inputs[0]))
        else:
            handle = part.register_forward_hook(lambda _, __, output: self._own(output))
        try:
            yield
        finally:
            handle.remove()


def disconnected(model: Model, tile: int, side: int) -> Model:
    """Return a convolutional model whose head sees one tile of a mosaic.

    Raises `UnsupportedMethodError` as `refusal` says.
    """
    adapter, site = model.adapter, model.adapter.cam_site()
    reason = refusal(model)
    if reason or isinstance(site, Refusal) or not isinstance(adapter, ConvNetAdapter):
        raise UnsupportedMethodError(f"{model.name} cannot be cut apart at tiles: {reason}.")
    network = Disconnected(model.module, adapter, site, tile, side)
    return replace(model, module=network, adapter=ConvNetAdapter(network))


def refusal(model: Model) -> str | None:
    """Return why a model cannot be cut apart at tiles, or None."""
    adapter, site = model.adapter, model.adapter.cam_site()
    if not isinstance(adapter, ConvNetAdapter):
        return (
            f"{type(model.module).__name__} is no plain convolutional network: where every token "
            "reads every other, no head sees one tile alone"
        )
    if isinstance(site, Refusal):
        return site.reason
    if site.axes != "channels_first":
        return f"the {site} is not (batch, channel, row, col)"
    return None


def cut(whole: torch.Tensor, side: int) -> torch.Tensor:
    """Return the tiles (batch * tile, channel, row, col) of (batch, channel, row, col).

    Raises `UnsupportedMethodError` where they are not whole.
    """
    height, width = whole.shape[-2:]
    if height % side or width % side:
        raise UnsupportedMethodError(
            f"{height} x {width} cells are not {side} x {side} equal tiles."
        )
    batch, channels = whole.shape[:2]
    apart = whole.reshape(batch, channels, side, height // side, side, width // side)
    ordered = apart.permute(0, 2, 4, 1, 3, 5)
    return ordered.reshape(batch * side**2, channels, height // side, width // side)


def joined(tiles: torch.Tensor, side: int) -> torch.Tensor:
    """Return what `cut` was given."""
    channels, height, width = tiles.shape[1:]
    apart = tiles.reshape(-1, side, side, channels, height, width).permute(0, 3, 1, 4, 2, 5)
    return apart.reshape(-1, channels, side * height, side * width)
