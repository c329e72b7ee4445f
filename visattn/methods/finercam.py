"""Finer-CAM (Zhang et al., CVPR 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from visattn.adapters import Adapter
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.gradcam import GradCam
from visattn.methods.method import Maps
from visattn.methods.registry import METHODS
from visattn.observation import AttentionRecord
from visattn.targets import ContrastTarget


@METHODS.register("finercam")
@dataclass(frozen=True)
class FinerCam(GradCam):
    """Grad-CAM of a class against the classes that the model finds most similar to it.

    Grad-CAM of ``y_c - gamma * mean_d y_d`` with d the ``count`` classes whose logits are nearest
    to the explained one's on this image; ``gamma`` = 0 is Grad-CAM. Values >= 0. Class-specific,
    and the target must be a class. The similar classes are in the provenance.

    Any other method of this family, or any method with a target, does the same with
    ``target=visattn.targets.ContrastTarget(...)``.

    Zhang et al., Finer-CAM, CVPR 2025. gamma is torchcam's; pytorch-grad-cam compares with the
    classes of fixed ranks, weighted by their probabilities.
    """

    formula: ClassVar[str] = "Grad-CAM of y_c - gamma mean_d y_d, d similar classes"
    applies: ClassVar[str] = "classifiers: CNN stages, tokens"
    paper: ClassVar[str] = "Zhang et al., CVPR 2025"

    gamma: float = 0.6
    count: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.gamma < float("inf"):
            raise UnsupportedMethodError(f"gamma={self.gamma!r} is not a number from 0 on.")
        if self.count < 1:
            raise UnsupportedMethodError(f"count={self.count!r} is not at least 1.")

    def explains(self, target: Any) -> Any:
        """Return the class against its similar classes, for one target or for one per image."""
        if isinstance(target, (list, tuple)):
            return [self.explains(each) for each in target]
        return ContrastTarget(target, self.gamma, self.count)

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why there is no site, or that there are no classes to compare."""
        if adapter.num_classes in (0, 1):
            return "it has no classes that could be set against each other"
        return super().refusal(adapter, size)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the maps, with the classes that were set against the explained one."""
        found = super().__call__(record, geometries)
        measured = []
        for number, explained in enumerate(record.again.targets):
            output, index = record.outputs[number : number + 1], explained.target.index
            against = [] if index is None else self.explains(None).similar(output, index)
            measured.append({"similar_classes": against})
        return replace(found, measured=measured)
