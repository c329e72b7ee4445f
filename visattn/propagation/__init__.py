"""Modified backward passes: one mechanism with switches, inside one ``with`` block."""

from __future__ import annotations

from visattn.propagation.ledger import Entry, Ledger
from visattn.propagation.mode import propagating
from visattn.propagation.rules import (
    ATTNLRP,
    CP_LRP,
    LIBRA,
    NAMED,
    PLAIN,
    RESLRP,
    Rules,
    rules_named,
)

__all__ = [
    "ATTNLRP",
    "CP_LRP",
    "LIBRA",
    "NAMED",
    "PLAIN",
    "RESLRP",
    "Entry",
    "Ledger",
    "Rules",
    "propagating",
    "rules_named",
]
