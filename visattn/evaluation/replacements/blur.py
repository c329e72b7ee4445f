"""The blurred input in the place of what is removed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch

from visattn.evaluation.replacements.registry import REPLACEMENTS
from visattn.evaluation.replacements.replacement import Substitute
from visattn.evaluation.sample import Sample
from visattn.models import Model

KERNEL, SIGMA = 11, 5.0


@REPLACEMENTS.register("blur")
@dataclass(frozen=True)
class Blur(Substitute):
    """The input under a Gaussian of standard deviation 5 pixels, kernel 11 x 11, normalised space.

    Petsiuk, Das & Saenko, BMVC 2018. The border is mirrored, where the reference pads with zeros
    and so draws a frame of the mean colour.
    """

    def substitute(self, model: Model, sample: Sample) -> torch.Tensor:
        """Return the blurred input."""
        del model
        pixels = np.ascontiguousarray(sample.prepared.tensor.permute(1, 2, 0).numpy())
        blurred = cv2.GaussianBlur(pixels, (KERNEL, KERNEL), SIGMA).reshape(pixels.shape)
        return torch.from_numpy(blurred).permute(2, 0, 1)
