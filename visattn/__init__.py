"""visattn shows where a vision model looks.

The public names are loaded on first use: importing visattn imports neither torch nor matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visattn.adapters import register_adapter
    from visattn.errors import (
        CaptureError,
        ConfigError,
        ImageError,
        ModelError,
        TargetError,
        UnsupportedMethodError,
        VisattnError,
        WeightsError,
    )
    from visattn.explanation import explain
    from visattn.gates import GateFamily, register_gate
    from visattn.geometry import Geometry
    from visattn.images import Image, load_image
    from visattn.inspection import inspect_model
    from visattn.methods import list_methods
    from visattn.models import Model, list_models, load_model
    from visattn.observation import AttentionRecord, capture
    from visattn.query import Pixel
    from visattn.registers import (
        RegisterNeurons,
        calibrate_registers,
        with_test_time_registers,
    )
    from visattn.saliency import SaliencyMap
    from visattn.targets import SimilarityTarget, TextTarget

__version__ = "0.5.0"

_HOMES = {
    "AttentionRecord": "observation",
    "CaptureError": "errors",
    "ConfigError": "errors",
    "GateFamily": "gates",
    "Geometry": "geometry",
    "Image": "images",
    "ImageError": "errors",
    "Model": "models",
    "ModelError": "errors",
    "Pixel": "query",
    "RegisterNeurons": "registers",
    "SaliencyMap": "saliency",
    "SimilarityTarget": "targets",
    "TargetError": "errors",
    "TextTarget": "targets",
    "UnsupportedMethodError": "errors",
    "VisattnError": "errors",
    "WeightsError": "errors",
    "calibrate_registers": "registers",
    "capture": "observation",
    "explain": "explanation",
    "inspect_model": "inspection",
    "list_methods": "methods",
    "list_models": "models",
    "load_image": "images",
    "load_model": "models",
    "register_adapter": "adapters",
    "register_gate": "gates",
    "with_test_time_registers": "registers",
}

__all__ = [
    "AttentionRecord",
    "CaptureError",
    "ConfigError",
    "GateFamily",
    "Geometry",
    "Image",
    "ImageError",
    "Model",
    "ModelError",
    "Pixel",
    "RegisterNeurons",
    "SaliencyMap",
    "SimilarityTarget",
    "TargetError",
    "TextTarget",
    "UnsupportedMethodError",
    "VisattnError",
    "WeightsError",
    "calibrate_registers",
    "capture",
    "explain",
    "inspect_model",
    "list_methods",
    "list_models",
    "load_image",
    "load_model",
    "register_adapter",
    "register_gate",
    "with_test_time_registers",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'visattn' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"visattn.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
