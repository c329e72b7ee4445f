"""Noisy linear imputation in the place of what is removed (ROAD)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from visattn.evaluation.imputation import imputed
from visattn.evaluation.replacements.registry import REPLACEMENTS
from visattn.evaluation.replacements.replacement import Filling, Replacement
from visattn.evaluation.sample import Sample
from visattn.evaluation.seeding import generator
from visattn.models import Model

NOISE = 0.01


@REPLACEMENTS.register("linear")
@dataclass(frozen=True)
class Linear(Replacement):
    """Weighted means of neighbours, see `imputed`, plus Gaussian noise of standard deviation 0.01.

    In normalised space. The noise belongs to the sample: it is the same for every mask. One sparse
    system for each mask, which takes about as long as the forward pass of a small model. Where
    everything is removed nothing can be imputed: zero, the mean colour, plus noise.

    Rong, Leemann, Borisov, Kasneci & Kasneci, ICML 2022.
    """

    def filling(self, model: Model, sample: Sample) -> Filling:
        """Return the imputed input."""
        del model
        image = sample.prepared.tensor.double().numpy()
        noise = NOISE * generator(sample.name, self.seed).standard_normal(image.shape)

        def fill(mask: torch.Tensor) -> torch.Tensor:
            missing = mask.numpy()
            found = np.where(missing, imputed(image, missing) + noise, image)
            return torch.from_numpy(found).to(sample.prepared.tensor)

        return fill
