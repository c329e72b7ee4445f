"""What the tokens of a model mean, and how relevance moves between them."""

from __future__ import annotations

from visattn.tokens.chain import Chain, Readout, Refusal
from visattn.tokens.layout import TokenLayout
from visattn.tokens.reindex import Reindex
from visattn.tokens.step import Placement, Step

__all__ = ["Chain", "Placement", "Readout", "Refusal", "Reindex", "Step", "TokenLayout"]
