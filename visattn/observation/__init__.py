"""Observing forward and backward passes: the only room that does."""

from __future__ import annotations

from visattn.observation.activation import Activation
from visattn.observation.dropping import dropping, refusal_to_drop
from visattn.observation.gate import SPATIAL, Gate, Keep, Missed
from visattn.observation.observe import LivePass, Observation, observe
from visattn.observation.operation import AttentionOperation, RowBlock, wide
from visattn.observation.passes import capture, record_pass
from visattn.observation.proof import Proof, prove
from visattn.observation.record import AttentionRecord
from visattn.observation.rerun import Rerun

__all__ = [
    "SPATIAL",
    "Activation",
    "AttentionOperation",
    "AttentionRecord",
    "Gate",
    "Keep",
    "LivePass",
    "Missed",
    "Observation",
    "Proof",
    "Rerun",
    "RowBlock",
    "capture",
    "dropping",
    "observe",
    "prove",
    "record_pass",
    "refusal_to_drop",
    "wide",
]
