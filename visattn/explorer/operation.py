"""An attention operation in the page: the operands of its softmax, proven to give its weights."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from visattn.errors import CaptureError, UnsupportedMethodError
from visattn.explorer.bias import Bias
from visattn.explorer.packing import Array, Arrays, cast
from visattn.observation import AttentionOperation, wide

TOLERANCE = 5e-3  # half of what the page promises; the browser adds rounding of its own
RELATIVE = 0.02  # of a row's largest weight, which among many tokens lies far below the tolerance
DENSE_BYTES = 16 * 2**20  # of one operation's weights or bias, which grow with N x N


def embedded_operation(operation: AttentionOperation, arrays: Arrays) -> dict[str, Any]:
    """Embed one operation whose windows stand in its batch axis, for one image.

    ``query`` and ``key`` are (window, head, token, channel), ``weights`` (window, head, query, key)
    stands instead of them where they were not recovered. Numbers are float16; query, key and bias
    are float32 where float16 would change a weight by more than `TOLERANCE`, or by more than
    `RELATIVE` of the largest weight of its row. Raises
    `UnsupportedMethodError` for weights or a bias of more than `DENSE_BYTES`, and `CaptureError`
    where what is embedded does not give back the captured weights.
    """
    windows, heads, queries, keys = operation.shape
    facts = {
        "name": operation.name,
        "windows": windows,
        "heads": heads,
        "queries": queries,
        "keys": keys,
        "softmax": operation.normalizer == "softmax",
    }
    if operation.query is None or operation.key is None:
        return {**facts, **_explicit(operation, arrays)}
    for kind in ("float16", "float32"):
        query, key = (_array(part, kind) for part in (operation.query, operation.key))
        bias = None if operation.bias is None else Bias.of(_numbers(operation.bias), kind)
        seen = replace(
            operation,
            query=_tensor(query),
            key=_tensor(key),
            value=operation.value.detach().cpu(),
            bias=None if bias is None else _tensor(bias.whole),
        )
        if _worst(operation, seen) <= 1:
            _check_size(operation, "bias", 0 if bias is None else bias.dense_bytes)
            operands = {"query": arrays.add(query), "key": arrays.add(key)}
            written = None if bias is None else bias.embedded(arrays)
            return {**facts, **operands, "scale": float(operation.scale), "bias": written}
    raise CaptureError(
        f"{operation.name}: the query, key and bias that would be embedded change its weights by "
        f"more than {TOLERANCE:g} or {RELATIVE:.0%} of a row's largest; leave the layer out with "
        "layers= (--layers)."
    )


def _explicit(operation: AttentionOperation, arrays: Arrays) -> dict[str, Any]:
    _check_size(operation, "weights", 2 * int(np.prod(operation.shape)))
    return {"weights": arrays.add(_array(operation.weights(), "float16"))}


def _check_size(operation: AttentionOperation, what: str, size: int) -> None:
    if size > DENSE_BYTES:
        reason = (
            "query and key could not be read from what the model computed"
            if what == "weights"
            else "its bias does not repeat"
        )
        raise UnsupportedMethodError(
            f"{operation.name}: {reason}, and its {what} of {size / 2**20:.0f} MB are more than "
            f"the {DENSE_BYTES >> 20} MB that a page embeds of one operation; use a smaller "
            "image_size (--image-size), or leave the layer out with layers= (--layers)."
        )


def _worst(operation: AttentionOperation, seen: AttentionOperation) -> float:
    """Return the largest difference of the weights in units of what is allowed in their row."""
    worst = 0.0
    for rows in operation.blocks():
        exact = operation.rows(rows).cpu()
        allowed = (RELATIVE * exact.amax(dim=-1, keepdim=True)).clamp(max=TOLERANCE)
        share = (exact - seen.rows(rows.cpu())).abs() / allowed.clamp(min=torch.finfo().tiny)
        worst = max(worst, float(share.max().nan_to_num(nan=float("inf"))))
    return worst


def _array(tensor: torch.Tensor, kind: str) -> Array:
    return cast(_numbers(tensor), kind)


def _numbers(tensor: torch.Tensor) -> Array:
    found: Array = wide(tensor).detach().cpu().numpy()
    return found


def _tensor(values: Array) -> torch.Tensor:
    return torch.from_numpy(values.astype(np.float32))
