"""Maps drawn over photographs: numpy, Pillow, OpenCV and scikit-image; no torch."""

from __future__ import annotations

from visattn.overlay.contour import contours
from visattn.overlay.draw import draw
from visattn.overlay.heat import heat
from visattn.overlay.mask import mass_box, mass_mask
from visattn.overlay.scale import Scale, shared_limits
from visattn.overlay.style import Style

__all__ = [
    "Scale",
    "Style",
    "contours",
    "draw",
    "heat",
    "mass_box",
    "mass_mask",
    "shared_limits",
]
