"""Baseline: the input that stands for absence of evidence."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import ndimage

from visattn.errors import UnsupportedMethodError, suggestion
from visattn.observation import AttentionRecord

WORDS = {
    "mean": "zero in normalised space, the mean colour",
    "black": "black",
    "blur": "the image under a Gaussian of 1/20 of its shorter side",
}
BLUR = 20


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


def baseline_of(baseline: Any, record: AttentionRecord, inputs: torch.Tensor) -> torch.Tensor:
    """Return the baseline of each input, (batch, channel, row, col) like ``inputs``.

    ``mean`` is zero in normalised space, the mean colour that the model's preprocessing subtracts;
    ``black`` is black there; ``blur`` the image itself under a Gaussian whose standard deviation is
    1/20 of its shorter side; a tensor or array (channel,) or (channel, row, col) is taken as
    normalised values.
    """
    inputs = inputs.detach()
    if isinstance(baseline, str):
        return {"mean": _mean, "black": _black, "blur": _blurred}[baseline](record, inputs)
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


def _mean(record: AttentionRecord, inputs: torch.Tensor) -> torch.Tensor:
    del record
    return torch.zeros_like(inputs)


def _black(record: AttentionRecord, inputs: torch.Tensor) -> torch.Tensor:
    known = record.preprocessing
    if known is None or len(known.mean) != inputs.shape[1]:
        raise UnsupportedMethodError(
            "baseline='black': what black is after the preprocessing of this model is not known; "
            "give the normalised colour as a tensor (channel,), or load the model with its "
            "transform."
        )
    mean, std = (inputs.new_tensor(part).reshape(-1, 1, 1) for part in (known.mean, known.std))
    return (-mean / std).expand_as(inputs).clone()


def _blurred(record: AttentionRecord, inputs: torch.Tensor) -> torch.Tensor:
    del record
    sigma = min(inputs.shape[-2:]) / BLUR
    blurred = ndimage.gaussian_filter(inputs.cpu().numpy(), (0, 0, sigma, sigma), mode="nearest")
    return torch.from_numpy(blurred).to(inputs)
