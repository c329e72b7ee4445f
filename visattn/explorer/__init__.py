"""Explorer: one photo in one HTML file, in which every patch can be asked where it looks."""

from __future__ import annotations

from visattn.explorer.export import export

__all__ = ["export"]
