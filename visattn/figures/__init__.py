"""Vector figures with matplotlib, without touching pyplot's state."""

from __future__ import annotations

from visattn.figures.channels import save_channels
from visattn.figures.page import save_page

__all__ = ["save_channels", "save_page"]
