"""Score-CAM (Wang et al., CVPR workshops 2020)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from visattn.images import Size
from visattn.methods.channels import ChannelMap, Score
from visattn.methods.feature_map import Cell, FeatureMap
from visattn.methods.registry import METHODS
from visattn.observation import AttentionRecord

CONSTANT = 1e-6
EVEN = 1.5
SAME = (
    "all {} channels have nearly the same weight: the map is the sum of the activations, and "
    "hardly depends on the target"
)


@METHODS.register("scorecam")
@dataclass(frozen=True)
class ScoreCam(ChannelMap):
    """Channels weighted by the score of the input seen through them.

    ``M_c = minmax(up(X_c))``, ``w = softmax_c(f(x * M_c))``, ``m = (sum_c w_c X_c)^+`` with X the
    activation, x the normalised input and f the explained score (the logit of a class), so that
    zero is the mean colour; ``up`` is bilinear. The paper's ``f(x * M_c) - f(0)`` has the same
    softmax. A channel without variation (below 1e-6 of its size) lights nothing, ``M_c`` = 0.
    Values >= 0, in units of the activation. Class-specific; no gradients; one forward pass per
    channel, masks of one chunk in memory.

    The softmax makes scores of a narrow range, such as similarities in -1..1, nearly equal weights.

    Wang et al., CVPR workshops 2020. SS-CAM and IS-CAM average over noise and over shares of M_c.
    """

    work: ClassVar[str] = "scorecam"
    formula: ClassVar[str] = "(sum_c softmax_c(f(x * minmax(up(X_c)))) X_c)^+"
    paper: ClassVar[str] = "Wang et al., CVPR workshops 2020"

    def score(self, record: AttentionRecord, features: FeatureMap, image: int) -> Score:
        """Return the scores of an image under the masks of channels."""

        def of(channels: torch.Tensor) -> torch.Tensor:
            maps = upsampled(features.values[image, channels], features.cell, record.size)
            inputs = record.inputs[image] * minmax(maps)[:, None].to(record.inputs.dtype)
            return record.again.scores(inputs, torch.full_like(channels, image))

        return of

    def weights(self, scores: torch.Tensor) -> torch.Tensor:
        """Return the softmax over channels."""
        return scores.double().softmax(dim=0)

    def notes(self, weights: torch.Tensor) -> list[str]:
        """Tell where the weights hardly depend on the scores."""
        if len(weights) == 1 or float(weights.max()) * len(weights) > EVEN:
            return []
        return [SAME.format(len(weights))]


def upsampled(maps: torch.Tensor, cell: Cell, size: Size) -> torch.Tensor:
    """Return maps (channel, row, col) at the pixels of an input of ``size``, bilinear.

    ``cell`` is the height and width of a cell in pixels, None where the grid covers the input;
    pixels beyond the grid continue its edge.
    """
    spans = [
        (torch.arange(pixels, dtype=maps.dtype) + 0.5) / (extent * (cells / 2)) - 1
        for pixels, cells, extent in zip(
            size,
            maps.shape[1:],
            cell or (size.height / maps.shape[1], size.width / maps.shape[2]),
            strict=True,
        )
    ]
    rows, cols = torch.meshgrid(*spans, indexing="ij")
    places = torch.stack([cols, rows], dim=-1).to(maps.device)
    return functional.grid_sample(
        maps[None], places[None], mode="bilinear", padding_mode="border", align_corners=False
    )[0]


def minmax(maps: torch.Tensor) -> torch.Tensor:
    """Return maps (channel, row, col) scaled to 0..1 each, zero where a map is constant."""
    low, high = torch.aminmax(maps.flatten(1), dim=1)
    span, size = high - low, maps.abs().amax(dim=(1, 2))
    varies = span > CONSTANT * size
    scaled = (maps - low[:, None, None]) / torch.where(varies, span, 1)[:, None, None]
    return scaled * varies[:, None, None]
