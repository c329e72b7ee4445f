"""Random numbers that belong to a sample, the same in every batch and every run."""

from __future__ import annotations

import hashlib

import numpy as np
import torch


def number(name: str, seed: int) -> int:
    """Return 62 bits that depend on a name and a seed alone."""
    digest = hashlib.sha256(f"{seed} {name}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") >> 2


def generator(name: str, seed: int) -> np.random.Generator:
    """Return numpy's generator for a name."""
    return np.random.default_rng(number(name, seed))


def torch_generator(name: str, seed: int) -> torch.Generator:
    """Return torch's generator for a name, on the CPU."""
    return torch.Generator().manual_seed(number(name, seed))
