"""One colour in the place of what is removed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from visattn.errors import ConfigError
from visattn.evaluation.replacements.registry import REPLACEMENTS
from visattn.evaluation.replacements.replacement import Substitute
from visattn.evaluation.sample import Sample
from visattn.images import Size
from visattn.models import Model


@REPLACEMENTS.register("mean")
@dataclass(frozen=True)
class Mean(Substitute):
    """Zero in normalised space: the mean colour of the data that the model was trained on."""

    def substitute(self, model: Model, sample: Sample) -> torch.Tensor:
        """Return zeros."""
        del model
        return torch.zeros_like(sample.prepared.tensor)


@REPLACEMENTS.register("image_mean")
@dataclass(frozen=True)
class ImageMean(Substitute):
    """The mean colour of the input itself."""

    def substitute(self, model: Model, sample: Sample) -> torch.Tensor:
        """Return the mean of each channel."""
        del model
        return sample.prepared.tensor.mean(dim=(1, 2), keepdim=True)


@REPLACEMENTS.register("black")
@dataclass(frozen=True)
class Black(Substitute):
    """Black before the normalisation, ``(0 - mean) / std`` of the model's own preprocessing."""

    def substitute(self, model: Model, sample: Sample) -> torch.Tensor:
        """Return the normalised colour; raises `ConfigError` where it is not known."""
        known, like = model.preprocessing, sample.prepared.tensor
        if known is None or len(known.mean) != like.shape[0]:
            raise ConfigError(
                f"fill=black: what black is in the {like.shape[0]} channels of {sample.name} is "
                f"not known to {model.name}."
            )
        mean, std = (like.new_tensor(part).reshape(-1, 1, 1) for part in (known.mean, known.std))
        return -mean / std

    def refusal(self, model: Model, size: Size, everything: bool = False) -> str | None:
        """Return that the preprocessing is not known, where that is so."""
        del size, everything
        if model.preprocessing is not None:
            return None
        return (
            f"fill=black: what black is after the preprocessing of {model.name} is not known; load "
            "the model with its transform, or use fill=mean"
        )
