"""Options that make methods cheap enough for contracts over many models."""

from __future__ import annotations

from typing import Any

FAST: dict[str, dict[str, Any]] = {
    "ablationcam": {"channels": 4},
    "bth": {"steps": 3},
    "btt": {"steps": 3},
    "tam": {"steps": 3},
    "gradient_shap": {"samples": 4},
    "integrated_gradients": {"steps": 4},
    "kernel_shap": {"n_segments": 4, "samples": 12},
    "lime": {"n_segments": 4, "samples": 12},
    "occlusion": {"window": 32},
    "rise": {"masks": 12},
    "scorecam": {"channels": 4},
    "smoothgrad": {"samples": 4},
    "vit_cx": {"threshold": 0.2},
}

# Models on which sums of a method do not cancel, so that half precision leaves something to see.
HALF_ON = {
    "attcat": "mean",
    "transformer_attribution": "headless",  # an ill-conditioned chain; see its docstring
    "xgradcam": "efficientnet",
}
