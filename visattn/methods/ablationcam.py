"""Ablation-CAM (Desai & Ramaswamy, WACV 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from visattn.methods.cam import unread
from visattn.methods.channels import ChannelMap, Score
from visattn.methods.feature_map import FeatureMap
from visattn.methods.method import Maps
from visattn.methods.registry import METHODS
from visattn.observation import AttentionRecord
from visattn.observation.replacing import replacing

ROUNDING = 256
COARSEST = 0.02
UNCHANGED = 2e-6
MISFIT = (RuntimeError, ValueError, IndexError, TypeError, AssertionError)


@METHODS.register("ablationcam")
@dataclass(frozen=True)
class AblationCam(ChannelMap):
    """Channels weighted by how far the score falls without them.

    ``w_c = (y - y_{X_c -> 0}) / |y|``, ``m = (sum_c w_c X_c)^+`` with X the activation and y the
    explained score; of tokens, the channel is zeroed on the patches and kept on the prefix. Values
    >= 0, in units of the activation. Class-specific; no gradients; one pass per channel and one
    with none zeroed. Parts of the model in front of the layer run once per chunk where the model
    allows it, which the pass with none zeroed proves.

    The paper divides by y: for a negative score every weight would change its sign, so the size of
    y is taken here. It scales the map only, and is left out where y is zero.

    Desai & Ramaswamy, WACV 2020.
    """

    beside: ClassVar[int] = 1
    work: ClassVar[str] = "ablationcam"
    formula: ClassVar[str] = "(sum_c ((y - y without X_c) / |y|) X_c)^+"
    paper: ClassVar[str] = "Desai & Ramaswamy, WACV 2020"

    chunk: int = 64

    def score(self, record: AttentionRecord, features: FeatureMap, image: int) -> Score:
        """Return the scores of an image with a channel zeroed."""
        return Ablation(record, features, image).scores

    def weights(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the falls of the score, by its size."""
        whole, ablated = scores[0], scores[1:]
        return (whole - ablated) / torch.where(whole == 0, 1, whole.abs())

    def of(self, record: AttentionRecord, features: FeatureMap) -> Maps:
        """Return the maps; raises where no channel of a named layer changes the score."""
        found = super().of(record, features)
        if self.names and all(each["largest_weight"] <= UNCHANGED for each in found.measured):
            raise unread(record.adapter, features.site, "zeroing its channels changes nothing")
        return found


@dataclass(eq=False)
class Ablation:
    """One image's passes with channels of a layer zeroed.

    Attributes:
        record, features, image: the observed pass, the layer, and the image in the batch.
        shared: whether what comes before the layer runs once for a whole chunk. Models that fix
            the batch size before the layer cannot; they fail, or miss the pass with none zeroed.
    """

    record: AttentionRecord
    features: FeatureMap
    image: int
    shared: bool = True

    def scores(self, channels: torch.Tensor) -> torch.Tensor:
        """Return the score (channel,) without each of the channels; -1 is with all."""
        outputs = self._attempt(channels) if self.shared else None
        if outputs is None:
            self.shared = False
            outputs = self._outputs(channels, len(channels))
        return self.record.again.score_of(outputs, torch.full_like(channels, self.image))

    def _attempt(self, channels: torch.Tensor) -> torch.Tensor | None:
        """Return outputs behind a single image's start, or None where they are not right."""
        try:
            outputs = self._outputs(channels, 1)
        except MISFIT:
            return None
        right = self.record.outputs[self.image]
        if outputs.shape != (len(channels), *right.shape):
            return None
        rounding = min(ROUNDING * torch.finfo(right.dtype).eps, COARSEST)
        apart = (outputs[channels < 0] - right).abs()
        return outputs if (apart <= rounding * right.abs().max()).all() else None

    def _outputs(self, channels: torch.Tensor, copies: int) -> torch.Tensor:
        inputs = self.record.inputs[self.image].expand(copies, -1, -1, -1)

        def ablate(activation: torch.Tensor) -> torch.Tensor:
            return self.features.axes.without(activation, channels)

        again = self.record.again
        with replacing(again.module, self.features.site, ablate):
            return again.outputs(inputs)
