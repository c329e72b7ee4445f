"""Imputation: missing pixels as weighted means of their neighbours, in one linear system."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import linalg

Pixels = npt.NDArray[np.float64]
Missing = npt.NDArray[np.bool_]
# Half of the eight neighbours; the others are the same seen from the other side.
NEIGHBOURS = ((0, 1, 1 / 6), (1, 0, 1 / 6), (1, 1, 1 / 12), (1, -1, 1 / 12))


def imputed(image: Pixels, missing: Missing) -> Pixels:
    """Return an image (channel, row, col) whose missing pixels (row, col) follow from the others.

    Every missing pixel is ``sum_n w_n x_n / sum_n w_n`` of its up to eight neighbours n inside the
    image, w = 1/6 beside and 1/12 across: a sparse, symmetric, positive definite system in the
    missing pixels, factorised once for all channels. Where every pixel is missing there is nothing
    to go by, and the image is zero.

    Rong, Leemann, Borisov, Kasneci & Kasneci, ICML 2022, without their noise.
    """
    found: Pixels = image.astype(np.float64)
    if missing.all():
        return np.zeros_like(found)
    if not missing.any():
        return found
    laplacian = _laplacian(*missing.shape)
    flat = missing.ravel()
    rows = laplacian[flat]
    values = found.reshape(found.shape[0], -1)
    right = -rows[:, ~flat] @ values[:, ~flat].T
    solver = linalg.splu(
        rows[:, flat].tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )  # fmt: skip
    values[:, flat] = solver.solve(np.ascontiguousarray(right)).T
    return values.reshape(found.shape)


@lru_cache(maxsize=2)
def _laplacian(height: int, width: int) -> sparse.csr_matrix:
    """Return the matrix (pixel, pixel) of the sum of neighbours' weights minus the weights."""
    places = np.arange(height * width).reshape(height, width)
    parts = []
    for down, right, weight in NEIGHBOURS:
        first = places[: height - down, max(0, -right) : width - max(0, right)].ravel()
        second = first + down * width + right
        parts.append((first, second, np.full(first.size, weight)))
    one, other, weights = (np.concatenate(part) for part in zip(*parts, strict=True))
    shape = (height * width, height * width)
    half = sparse.coo_matrix((weights, (one, other)), shape=shape)
    adjacency = (half + half.T).tocsr()
    return (sparse.diags(np.asarray(adjacency.sum(axis=1)).ravel()) - adjacency).tocsr()
