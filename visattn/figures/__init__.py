"""Vector figures with matplotlib, without touching pyplot's state."""

from __future__ import annotations

from visattn.figures.channels import save_channels
from visattn.figures.design import Design
from visattn.figures.page import save_page
from visattn.figures.panel import show
from visattn.figures.panels import figure, wrapped
from visattn.figures.saving import save
from visattn.figures.width import VENUES, Width

__all__ = [
    "VENUES",
    "Design",
    "Width",
    "figure",
    "save",
    "save_channels",
    "save_page",
    "show",
    "wrapped",
]
