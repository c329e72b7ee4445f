"""Spatial gates of convolutional networks, one layer or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.nn import functional

from visattn.errors import UnsupportedMethodError
from visattn.gates import Kind
from visattn.geometry import Geometry
from visattn.methods.gating import CONSTANT, cell_of, gates_of, variation, warned
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.observation import SPATIAL, AttentionRecord, Gate

FUSIONS = ("mean", "product")
RULE = "{fusion} of gates as they are; distributions times their positions; bilinear on {grid}"


@METHODS.register("spatial_gate")
@dataclass(frozen=True)
class SpatialGate(Method):
    """The gate with which a layer weighs positions; over several layers their mean or product.

    ``m = mean_l up(s_l)``: each gate is upsampled, bilinearly, to the finest grid of the chosen
    ``layers`` (None for all, an int, a slice or a list, in execution order). s is a spatial gate as
    it is, the mean over channels of a gate for each channel and position, and for a distribution
    (a softmax over positions, as in global context blocks) its value times the number of positions,
    so that 1 means "as much as the average position" and a gate of few positions is not louder
    than one of many. Class-agnostic; values >= 0 for sigmoid gates.

    A sigmoid gate is not a distribution: it may be open, or closed, everywhere. A gate whose
    standard deviation over positions is below 1 % of its mean magnitude is called constant over
    this image. Where all are, or where the fused map is, in which constant gates drown the others,
    the map carries no signal.

    The fused maps are small, ``L P``, but a pass records every gate as it is (`Gate.value`): those
    for each channel and position take ``C P`` a layer.

    CBAM: Woo et al., ECCV 2018. BAM: Park et al., BMVC 2018. Global context: Cao et al., ICCVW
    2019. The fusion over layers is ours.
    """

    gates: ClassVar[tuple[Kind, ...]] = SPATIAL
    signed: ClassVar[bool] = False
    memory: ClassVar[str] = "L C P"
    formula: ClassVar[str] = "mean_l up(s_l), or the product"
    applies: ClassVar[str] = "CNNs with spatial gates"
    paper: ClassVar[str] = "Woo et al., ECCV 2018 (CBAM); Cao et al., ICCVW 2019 (GC)"

    layers: Any = None
    fusion: str = "mean"

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS:
            raise UnsupportedMethodError(f"fusion={self.fusion!r}: use 'mean' or 'product'.")

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the fused maps; raises where no spatial gate was observed."""
        del geometries
        found = gates_of(record, SPATIAL)
        chosen = [found[layer] for layer in choose(len(found), self.layers)]
        maps = [_map(gate) for gate in chosen]
        grid = tuple(max(maps, key=lambda each: each[0].numel()).shape[1:])
        layers = torch.stack([_upsampled(each, grid) for each in maps])
        values = layers.mean(dim=0) if self.fusion == "mean" else layers.prod(dim=0)
        spread, fused = torch.stack([variation(each) for each in maps]), variation(values)
        names = [gate.name for gate in chosen]
        return Maps(
            values,
            cell_of(record, grid),
            warnings=[_notes(names, each) + warned(record) for each in spread.T],
            facts={
                "layers": names,
                "kinds": [gate.kind for gate in chosen],
                "fusion": RULE.format(fusion=self.fusion, grid=f"{grid[0]} x {grid[1]}"),
            },
            measured=[
                {"spatial_variation": each.tolist(), "fused_variation": float(whole)}
                for each, whole in zip(spread.T, fused, strict=True)
            ],
            signed=[bool((each < 0).any()) for each in values],
            silent=[
                _silent(each, float(whole)) for each, whole in zip(spread.T, fused, strict=True)
            ],
        )


def _map(gate: Gate) -> torch.Tensor:
    if gate.map is None:
        raise UnsupportedMethodError(f"{gate.name} is a {gate.kind} gate, which has no map.")
    return gate.map


def _upsampled(maps: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    if tuple(maps.shape[1:]) == tuple(grid):
        return maps
    return functional.interpolate(
        maps[:, None], size=tuple(grid), mode="bilinear", align_corners=False
    )[:, 0]


def _notes(names: Sequence[str], spread: torch.Tensor) -> list[str]:
    constant = [name for name, each in zip(names, spread.tolist(), strict=True) if each < CONSTANT]
    if not constant or len(constant) == len(names):
        return []
    note = (
        f"{len(constant)} of {len(names)} spatial gates are constant over this image (deviation "
        f"below {CONSTANT:.0%} of the mean) and add nothing: {', '.join(constant)}"
    )
    return [note]


def _silent(spread: torch.Tensor, fused: float) -> str | None:
    varying = int((spread >= CONSTANT).sum())
    if varying and fused >= CONSTANT:
        return None
    if varying:
        return (
            f"the fused map is constant over this image: its deviation over positions is "
            f"{fused:.2%} of the mean, though {varying} of {len(spread)} spatial gates vary by up "
            f"to {float(spread.max()):.2%} (layers= draws them alone)"
        )
    what = "the spatial gate is" if len(spread) == 1 else f"all {len(spread)} spatial gates are"
    return (
        f"{what} constant over this image: the deviation over positions is at most "
        f"{float(spread.max()):.2%} of the mean"
    )
