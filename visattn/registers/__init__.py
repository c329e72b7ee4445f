"""Test-time registers (Jiang, Dravid, Efros & Gandelsman, NeurIPS 2025)."""

from __future__ import annotations

from visattn.registers.calibration import calibrate_registers
from visattn.registers.effect import Effect, register_effect
from visattn.registers.neurons import RegisterNeurons
from visattn.registers.wrapper import with_test_time_registers

__all__ = [
    "Effect",
    "RegisterNeurons",
    "calibrate_registers",
    "register_effect",
    "with_test_time_registers",
]
