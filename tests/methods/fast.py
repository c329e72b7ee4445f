"""Options that make methods cheap enough for contracts over many models."""

from __future__ import annotations

from typing import Any

FAST: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 4},
}
