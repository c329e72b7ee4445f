"""list_models: names that `load_model` takes."""

from __future__ import annotations

from fnmatch import fnmatchcase
from importlib.util import find_spec


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of known models that match a shell pattern.

    Packaged and reference models, timm's architectures, torchvision's classifiers, and, for a
    pattern that begins with ``open_clip:``, the models and weights of open_clip where it is
    installed. Models of transformers live on the hub and in folders: ``hf:org/name`` or
    ``hf:./folder``.
    """
    return [name for name in _known(pattern) if fnmatchcase(name, pattern)]


def _known(pattern: str) -> list[str]:
    if pattern.startswith("open_clip:"):
        return _open_clip()
    import timm
    from torchvision import models

    from visattn.models.packaged import PACKAGED
    from visattn.models.reference import REFERENCE

    return [
        *(f"packaged:{name}" for name in sorted(PACKAGED)),
        *(f"reference:{name}" for name in REFERENCE),
        *timm.list_models(),
        *(f"torchvision:{name}" for name in models.list_models(module=models)),
    ]


def _open_clip() -> list[str]:
    if find_spec("open_clip") is None:
        return []
    import open_clip

    with_weights = (f"open_clip:{name}/{tag}" for name, tag in open_clip.list_pretrained())
    return [*(f"open_clip:{name}" for name in open_clip.list_models()), *with_weights]
