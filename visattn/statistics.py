"""Numbers about a map, computed on its cells and never on upsampled pixels."""

from __future__ import annotations

import math

import numpy as np

from visattn.geometry import Array

FLAT = 1e-6
DWARFS = 4.0


def mass(grid: Array) -> Array | None:
    """Return ``p_j = m_j^+ / sum m^+`` over the flattened cells, or None without positive mass."""
    positive = np.clip(grid.astype(np.float64).ravel(), 0.0, None)
    total = positive.sum()
    if not (math.isfinite(total) and total > 0):
        return None
    shares: Array = (positive / total).astype(np.float64)
    return shares


def entropy(grid: Array) -> float | None:
    """Return the entropy ``-sum p log p`` of the positive mass, in nats (0 to log n)."""
    shares = mass(grid)
    if shares is None:
        return None
    occupied = shares[shares > 0]
    return float(-(occupied * np.log(occupied)).sum())


def gini(grid: Array) -> float | None:
    """Return the Gini coefficient of the positive mass: 0 for equal cells, near 1 for one cell.

    ``(2 sum_j j p_(j) - (n + 1)) / n`` with p in ascending order, j from 1.
    """
    shares = mass(grid)
    if shares is None:
        return None
    n = shares.size
    return float((2 * (np.arange(1, n + 1) * np.sort(shares)).sum() - (n + 1)) / n)


def top_mass(grid: Array, fraction: float = 0.05) -> float | None:
    """Return the share of the positive mass in the highest ``fraction`` of cells (rounded up)."""
    shares = mass(grid)
    if shares is None:
        return None
    count = math.ceil(fraction * shares.size)
    return float(np.sort(shares)[-count:].sum())


def no_signal(grid: Array) -> str | None:
    """Return why a map carries no signal, or None when it does.

    NaN or infinite cells, all zeros, or a spread below `FLAT` of the largest magnitude.
    """
    if not np.isfinite(grid).all():
        return f"{int((~np.isfinite(grid)).sum())} of {grid.size} cells are not finite"
    extreme = float(np.abs(grid).max())
    if extreme == 0:
        return "all cells are zero"
    spread = float(grid.max()) - float(grid.min())
    if spread < FLAT * extreme:
        return f"all cells are equal to {float(grid.flat[0]):.3g} within one part in a million"
    return None


def concentration(grid: Array) -> float | None:
    """Return the largest cell's share of the positive mass where it dwarfs all others, else None.

    It does when it exceeds `DWARFS` times the 99th percentile of at least 100 cells: drawn from
    minimum to maximum, such a map shows one dot. Maps with negative values are not judged.
    """
    shares = mass(grid)
    if shares is None or shares.size < 100 or grid.min() < 0:
        return None
    largest = float(shares.max())
    return largest if largest > DWARFS * float(np.percentile(shares, 99)) else None


def lattice(grid: Array) -> float | None:
    """Return the share of a map's variance that repeats every second row and column, 0..1.

    None for fewer than 64 cells and for maps without variance. A photo does not repeat so; strided
    convolutions with overlapping kernels read every second cell more often than the others.
    """
    rows, cols = grid.shape
    wide = grid[: rows - rows % 2, : cols - cols % 2].astype(np.float64)
    total = float(wide.var())
    if wide.size < 64 or not total > 0:
        return None
    return float(wide.reshape(rows // 2, 2, cols // 2, 2).mean(axis=(0, 2)).var() / total)


def summary(grid: Array) -> dict[str, float | None]:
    """Return entropy, Gini coefficient and top-5 % mass, None where there is no positive mass."""
    return {"entropy": entropy(grid), "gini": gini(grid), "top5_mass": top_mass(grid)}
