"""Class activation maps that weigh channels by running the model once for each of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch

from visattn.adapters import Adapter
from visattn.errors import UnsupportedMethodError
from visattn.images import Size
from visattn.methods.cam import ActivationMap
from visattn.methods.feature_map import FeatureMap, channels_at
from visattn.methods.method import Maps, Passes
from visattn.observation import AttentionRecord
from visattn.progress import progress

Score = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class ChannelMap(ActivationMap):
    """Activations added up with one weight per channel, each measured by a forward pass.

    ``m = (sum_c w_c X_c)^+`` with X the activation. ``channels`` limits the passes to that many
    channels, those of largest energy ``sum_p X_cp^2`` on this image; the others get weight zero,
    which is not in the papers. ``chunk`` passes run at a time.

    Attributes:
        beside: passes per layer and image that belong to no channel.
        work: what progress calls them.
    """

    beside: ClassVar[int] = 0
    work: ClassVar[str] = ""

    channels: int | None = None
    chunk: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, value in (("channels", self.channels), ("chunk", self.chunk)):
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and (not whole or value < 1):
                raise UnsupportedMethodError(f"{name}={value!r} is not a whole number from 1 on.")

    @abstractmethod
    def score(self, record: AttentionRecord, features: FeatureMap, image: int) -> Score:
        """Return a function from a chunk of channels (channel,) to their scores (channel,).

        Channel -1 stands for the passes ``beside``, which come first.
        """

    @abstractmethod
    def weights(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the weights (channel,) from the scores (beside + channel,)."""

    def notes(self, weights: torch.Tensor) -> list[str]:
        """Return what a reader must know of one image's weights (channel,)."""
        del weights
        return []

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return the shared pass and those of the channels of every layer."""
        del size
        sites = self.sites(adapter)
        known = [channels_at(adapter, site) for site in sites]
        forward = 1 + self.beside * max(1, len(sites))
        if None not in known and known:
            return Passes(forward + sum(min(c, self.channels or c) for c in known if c))
        if self.channels is not None:
            return Passes(forward + self.channels * max(1, len(sites)), at_most=True)
        return Passes(forward, per="channel")

    def of(self, record: AttentionRecord, features: FeatureMap) -> Maps:
        """Return the weighted sums of the channels of each image."""
        every = features.values.shape[1]
        number = min(every, self.channels or every)
        chosen = [_strongest(maps, number) for maps in features.values]
        each, total = self.beside + number, (self.beside + number) * record.batch
        progress(self.work, 0, total)
        weights = []
        with torch.inference_mode(mode=False), torch.no_grad():
            for image, channels in enumerate(chosen):
                score, scores = self.score(record, features, image), []
                wanted = torch.cat([channels.new_full((self.beside,), -1), channels])
                for chunk in torch.split(wanted, self.chunk):
                    scores.append(score(chunk))
                    progress(self.work, image * each + sum(map(len, scores)), total)
                weights.append(self.weights(torch.cat(scores)).to(features.values))
        values = [
            torch.einsum("c,cij->ij", found, maps[channels]).clamp(min=0)
            for found, maps, channels in zip(weights, features.values, chosen, strict=True)
        ]
        return Maps(
            torch.stack(values),
            features.cell,
            warnings=[self.notes(found) for found in weights],
            facts={"channels": f"{number} of {every}"},
            measured=[{"largest_weight": float(found.abs().max())} for found in weights],
        )


def _strongest(maps: torch.Tensor, number: int) -> torch.Tensor:
    """Return the channels of (channel, row, col) with the largest sums of squares, in order."""
    energy = maps.square().sum(dim=(1, 2))
    return energy.argsort(descending=True, stable=True)[:number].sort().values
