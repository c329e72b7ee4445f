"""ChannelRanking: which channels a gate lets through, with their activation maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from visattn.geometry import Array


@dataclass(frozen=True, eq=False)
class ChannelRanking:
    """The strongest channels behind a gate, by the energy that it passes.

    That is ``u_c = |offset + g_c| * mean_hw |x_c|``, the mean magnitude of what is behind it.

    Attributes:
        layer: name of the gate.
        kind: ``channel``, or ``branch`` where a softmax chooses between branches.
        order: indices of the strongest channels, the strongest first.
        gates: the gate of every channel: (channel,) or, for branches, (branch, channel).
        energies: ``mean_hw |x_c|`` of every channel before the gate, shape as ``gates``.
        maps: gated activation of the strongest channels (channel, row, col), in ``order``.
        offset: what is added to the gate before it multiplies; 0 for most.
    """

    layer: str
    kind: str
    order: np.ndarray[Any, np.dtype[np.int64]]
    gates: Array
    energies: Array
    maps: Array
    offset: float = 0.0

    def __post_init__(self) -> None:
        for name, dtype in (
            ("order", np.int64), ("gates", np.float32), ("energies", np.float32),
            ("maps", np.float32),
        ):  # fmt: skip
            values = np.array(getattr(self, name), dtype=dtype)
            values.flags.writeable = False
            object.__setattr__(self, name, values)

    @property
    def passing(self) -> Array:
        """The energy (channel,) >= 0 that each channel passes, summed over branches."""
        passed: Array = np.abs(self.gates + np.float32(self.offset)) * self.energies
        summed: Array = passed.reshape(-1, self.gates.shape[-1]).sum(axis=0)
        return summed

    @property
    def share(self) -> Array:
        """The share of all passing energy that is each strongest channel's, in ``order``."""
        passed = self.passing
        total = max(float(passed.sum()), np.finfo(np.float32).tiny)
        shares: Array = (passed[self.order] / total).astype(np.float32)
        return shares

    @classmethod
    def stored(cls, heading: Mapping[str, Any], arrays: Mapping[str, Any]) -> ChannelRanking:
        """Return a ranking from the `heading` and the `arrays` of a file."""
        names = ("order", "gates", "energies", "maps")
        order, gates, energies, maps = (arrays[f"channel_{name}"] for name in names)
        offset = heading.get("offset", 0.0)  # older files do not know it
        return cls(heading["layer"], heading["kind"], order, gates, energies, maps, offset)

    def heading(self) -> dict[str, Any]:
        """Return the facts beside the arrays as they are stored with a map."""
        return {"layer": self.layer, "kind": self.kind, "offset": self.offset}

    def arrays(self) -> dict[str, Any]:
        """Return the arrays as they are stored beside a map."""
        return {
            "channel_order": self.order,
            "channel_gates": self.gates,
            "channel_energies": self.energies,
            "channel_maps": self.maps,
        }
