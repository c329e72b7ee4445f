"""list_models: every name that `load_model` takes."""

from __future__ import annotations

from fnmatch import fnmatchcase


def list_models(pattern: str = "*") -> list[str]:
    """Return packaged models and timm architectures whose names match a shell pattern."""
    import timm

    from visattn.models.packaged import PACKAGED

    names = [*(f"packaged:{name}" for name in sorted(PACKAGED)), *timm.list_models()]
    return [name for name in names if fnmatchcase(name, pattern)]
