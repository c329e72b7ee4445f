"""Vector figures with matplotlib, without touching pyplot's state."""

from __future__ import annotations

from visattn.figures.agreement import Agreement, agreement
from visattn.figures.agreement_matrix import agreement_figure
from visattn.figures.alignment import aligned
from visattn.figures.arrangement import arranged, with_differences, wrapped
from visattn.figures.caption import caption, warnings
from visattn.figures.channels import save_channels
from visattn.figures.design import Design
from visattn.figures.difference import difference
from visattn.figures.page import save_page
from visattn.figures.panel import show
from visattn.figures.panels import figure
from visattn.figures.saving import save, save_maps
from visattn.figures.stub import save_stub
from visattn.figures.width import VENUES, Width

__all__ = [
    "VENUES",
    "Agreement",
    "Design",
    "Width",
    "agreement",
    "agreement_figure",
    "aligned",
    "arranged",
    "caption",
    "difference",
    "figure",
    "save",
    "save_channels",
    "save_maps",
    "save_page",
    "save_stub",
    "show",
    "warnings",
    "with_differences",
    "wrapped",
]
