"""Random numbers that belong to an image, so that its map is the same in every batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from visattn.images import Image


def generator(image: Image, seed: int) -> torch.Generator:
    """Return a generator seeded by the image's hash and ``seed``."""
    return torch.Generator().manual_seed((int(image.sha256[:12], 16) + seed) % 2**63)


@contextmanager
def seeded(image: Image, seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch's and numpy's global generators as `generator`; both are put back on every exit.

    For libraries that take no generator.
    """
    number = generator(image, seed).initial_seed()
    before = np.random.get_state()  # noqa: NPY002 - captum draws from numpy's global generator
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        try:
            torch.default_generator.manual_seed(number)
            if devices:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(number)
            np.random.seed(number % 2**32)  # noqa: NPY002
            yield
        finally:
            np.random.set_state(before)  # noqa: NPY002
