"""Patch tokens with a norm far above that of the others, and where norms are read."""

from __future__ import annotations

import torch

from visattn.adapters import Chain
from visattn.errors import CaptureError
from visattn.observation import AttentionRecord

DEVIATIONS = 5.0
MAD_TO_SIGMA = 1.4826


def norm_limit(norms: torch.Tensor, deviations: float = DEVIATIONS) -> torch.Tensor:
    """Return the norm (batch, 1) beyond which a patch token of an image is an outlier.

    ``median + deviations * 1.4826 MAD`` over the image's patch tokens; ``norms`` is (batch, patch).
    1.4826 MAD estimates the standard deviation of a normal distribution. Both medians average the
    two middle values of an even count. Definition of this package; the tokens were described by
    Darcet et al., ICLR 2024.
    """
    wide = norms.to(torch.promote_types(norms.dtype, torch.float32))
    median = wide.quantile(0.5, dim=1, keepdim=True)
    mad = (wide - median).abs().quantile(0.5, dim=1, keepdim=True)
    return median + deviations * MAD_TO_SIGMA * mad


def norm_outliers(norms: torch.Tensor, threshold: float | None = None) -> torch.Tensor:
    """Return which patch tokens (batch, patch) lie beyond ``threshold``, or beyond `norm_limit`."""
    return norms > (norm_limit(norms) if threshold is None else threshold)


def stream_norms(record: AttentionRecord, chain: Chain) -> dict[int, torch.Tensor]:
    """Return the Euclidean norm of the patch tokens (batch, patch) behind each step that was read.

    Keys are places among the chain's steps. Raises `CaptureError` where what was read does not have
    the tokens of the layout.
    """
    found = {}
    for place, site in enumerate(record.adapter.block_sites()):
        if site is None or site not in record.activations:
            continue
        norms, layout = record.activations[site].value.flatten(1), chain.after(place)
        wanted = layout.tokens if site.axes == "tokens" else layout.patches
        if norms.shape[1] != wanted:
            raise CaptureError(f"The {site} has {norms.shape[1]} tokens; {wanted} are declared.")
        found[place] = norms[:, layout.places] if site.axes == "tokens" else norms
    return found
