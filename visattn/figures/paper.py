"""Settings of matplotlib under which figures are made and saved, whatever the user's own are."""

from __future__ import annotations

from typing import Any

from visattn.figures.page import TEXT

PAPER: Any = {
    **TEXT,
    "font.family": ["DejaVu Sans"],  # the font that words are measured with
    "text.usetex": False,
    "savefig.bbox": None,  # "tight" would change the width of the column
    "savefig.facecolor": "white",
}
