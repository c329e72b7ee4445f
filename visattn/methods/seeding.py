"""Random numbers that belong to an image, so that its map is the same in every batch."""

from __future__ import annotations

import torch

from visattn.images import Image


def generator(image: Image, seed: int) -> torch.Generator:
    """Return a generator seeded by the image's hash and ``seed``."""
    return torch.Generator().manual_seed((int(image.sha256[:12], 16) + seed) % 2**63)
