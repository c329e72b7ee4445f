"""Baseline: the input that stands for absence of evidence."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from scipy import ndimage

from visattn.errors import UnsupportedMethodError, suggestion
from visattn.models.preprocessing import Preprocessing

WORDS = {
    "mean": "zero in normalised space, the mean colour",
    "black": "black",
    "blur": "the image under a Gaussian of 1/20 of its shorter side",
}
BLUR = 20


class Preprocessed(Protocol):
    """What knows how photographs become inputs: a record of a pass, or a model."""

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The preprocessing, or None where it is not known."""


def require_baseline(baseline: Any) -> None:
    """Raise `UnsupportedMethodError` where ``baseline`` is neither a name nor an input."""
    if isinstance(baseline, str):
        if baseline not in WORDS:
            raise UnsupportedMethodError(
                f"baseline={baseline!r} is not known.{suggestion(baseline, WORDS)}"
            )
    elif not isinstance(baseline, (torch.Tensor, np.ndarray)) or baseline.ndim not in (1, 3):
        raise UnsupportedMethodError(
            f"baseline={baseline!r} is neither one of {', '.join(WORDS)} nor a normalised tensor "
            "(channel,) or (channel, row, col)."
        )


def baseline_of(baseline: Any, known: Preprocessed, inputs: torch.Tensor) -> torch.Tensor:
    """Return the baseline of each input, (batch, channel, row, col) like ``inputs``.

    ``mean`` is zero in normalised space, the mean colour that the model's preprocessing subtracts;
    ``black`` is black there; ``blur`` the image itself under a Gaussian whose standard deviation is
    1/20 of its shorter side; a tensor or array (channel,) or (channel, row, col) is taken as
    normalised values.
    """
    inputs = inputs.detach()
    if isinstance(baseline, str):
        return {"mean": _mean, "black": _black, "blur": _blurred}[baseline](known, inputs)
    given = torch.as_tensor(baseline).to(inputs)
    given = given.reshape(-1, 1, 1) if given.ndim == 1 else given
    if tuple(given.shape) not in ((inputs.shape[1], 1, 1), tuple(inputs.shape[1:])):
        raise UnsupportedMethodError(
            f"The baseline has shape {tuple(baseline.shape)}; the inputs of this model are "
            f"{tuple(inputs.shape[1:])}."
        )
    return given.expand_as(inputs).clone()


def described(baseline: Any) -> str:
    """Return a baseline in words, for the provenance."""
    return WORDS[baseline] if isinstance(baseline, str) else "given"


def _mean(known: Preprocessed, inputs: torch.Tensor) -> torch.Tensor:
    del known
    return torch.zeros_like(inputs)


def _black(known: Preprocessed, inputs: torch.Tensor) -> torch.Tensor:
    steps = known.preprocessing
    if steps is None or len(steps.mean) != inputs.shape[1]:
        raise UnsupportedMethodError(
            "baseline='black': what black is after the preprocessing of this model is not known; "
            "give the normalised colour as a tensor (channel,), or load the model with its "
            "transform."
        )
    mean, std = (inputs.new_tensor(part).reshape(-1, 1, 1) for part in (steps.mean, steps.std))
    return (-mean / std).expand_as(inputs).clone()


def _blurred(known: Preprocessed, inputs: torch.Tensor) -> torch.Tensor:
    del known
    sigma = min(inputs.shape[-2:]) / BLUR
    blurred = ndimage.gaussian_filter(inputs.cpu().numpy(), (0, 0, sigma, sigma), mode="nearest")
    return torch.from_numpy(blurred).to(inputs)
