"""Gates: the modules of convolutional networks that weigh channels, positions or branches."""

from __future__ import annotations

from collections.abc import Callable

from visattn.gates.family import KINDS, GateFamily, GateModule, Kind
from visattn.gates.registry import GATES, gate_modules, lookalikes

__all__ = [
    "GATES",
    "KINDS",
    "GateFamily",
    "GateModule",
    "Kind",
    "gate_modules",
    "lookalikes",
    "register_gate",
]


def register_gate(name: str) -> Callable[[type[GateFamily]], type[GateFamily]]:
    """Return a decorator that makes a `GateFamily` known under ``name``.

    The class says which modules weigh their input and how; docs/gates.md has a complete example::

        @register_gate("my_gate")
        class MyGate(GateFamily):
            family = "my_gate"
            classes = (MySpatialGate,)
            kinds = ("spatial",)

    Raises `VisattnError` for a name that is taken.
    """
    return GATES.register(name)
