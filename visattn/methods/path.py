"""Path: gradients of attention weights, averaged over images from the mean colour to the image."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from visattn.adapters import Placement
from visattn.errors import UnsupportedMethodError
from visattn.methods.walk import Walk
from visattn.observation import AttentionOperation, AttentionRecord
from visattn.observation.operation import BLOCK_BYTES
from visattn.progress import progress
from visattn.propagation import Rules


def follow(
    record: AttentionRecord, means: Sequence[PathGradient], rules: Rules, chunk: int
) -> None:
    """Run the images ``x_k = a_k x``, ``chunk`` at a time, and add their gradients to ``means``.

    a goes from 0 to 1 in equal steps with both ends, x in the model's normalised input space, where
    zero is the mean colour; a = 1 is the recorded pass, which the means hold already.
    """
    shares = torch.linspace(0, 1, means[0].points, dtype=torch.float64)[:-1]
    total, done = len(shares) * record.batch, 0
    progress("path of images", done, total)
    for some in torch.split(shares, max(1, chunk // record.batch)):
        inputs = (some.to(record.inputs).view(-1, 1, 1, 1, 1) * record.inputs).flatten(0, 1)
        index = record.indices.repeat(len(some))
        with record.again.live(inputs, rules=rules) as live:
            score = record.again.score_of(live.outputs, index).sum()
            names = [operation.name for operation in live.operations]
            for mean in means:
                place = names.index(mean.placement.operation)
                gradient = live.gradient(score, place)
                seen = replace(live.operations[place], output_gradient=gradient)
                mean.add(seen, len(inputs), len(some))
        done += len(inputs)
        progress("path of images", done, total)


@dataclass(eq=False)
class PathGradient:
    """Gradient of one operation's weights, averaged over points of a path, for the rows read.

    Either the rows themselves are added up, or the gradients and values of all points are kept side
    by side as channels, ``mean_k <dO_k, V_k>``, whichever is smaller: H N numbers for a class
    token, and never more than 2 K N D.

    Attributes:
        placement: the operation's place in the stream.
        rows: the queries (row,) that are read.
        points: K.
        narrow: whether rows are added up.
    """

    placement: Placement
    rows: torch.Tensor
    points: int
    narrow: bool
    _sum: torch.Tensor | None = None
    _kept: list[AttentionOperation] = field(default_factory=list)

    @classmethod
    def of(cls, walk: Walk, placement: Placement, row: torch.Tensor, points: int) -> PathGradient:
        """Return the gradient where the row (batch, token) reads it, the recorded pass inside."""
        own = walk.operation(placement)
        slots = placement.queries(row).reshape(-1, placement.slots[0])
        rows = slots.ne(0).any(dim=0).nonzero().reshape(-1)
        keys, channels = own.value.shape[2:]
        mean = cls(placement, rows, points, smaller(len(rows), keys, channels, points))
        mean.add(walk.record[placement.operation], walk.record.batch, 1)
        return mean

    def add(self, operation: AttentionOperation, batch: int, points: int) -> None:
        """Add ``points`` points, those of one image ``batch / points`` apart in the batch."""
        placed = operation.arranged(batch, self.placement.windows, self.placement.order)
        side_by_side = _side_by_side(placed, self.rows, points)
        if not self.narrow:
            self._kept.append(side_by_side)
            return
        rows = _gradient(side_by_side, torch.arange(len(self.rows), device=self.rows.device))
        self._sum = rows if self._sum is None else self._sum + rows

    def positive(self, operation: AttentionOperation, slots: torch.Tensor) -> torch.Tensor:
        """Return ``r mean_h(G)^+``: slots (batch * window, query) -> (batch * window, key)."""
        result = operation.new_row(slots)
        for some, gradient in self._blocks():
            clamped = gradient.clamp(min=0).mean(dim=1)
            result += torch.einsum("bq,bqk->bk", slots[:, self.rows[some]], clamped)
        return result

    def _blocks(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield indices into the rows, and their mean gradient (batch * window, head, row, key)."""
        everything = torch.arange(len(self.rows), device=self.rows.device)
        if self._sum is not None:
            yield everything, self._sum / self.points
            return
        batch, heads, _, keys = self._kept[0].shape
        size = max(1, BLOCK_BYTES // (4 * batch * heads * keys))
        for some in torch.split(everything, size):
            parts = [_gradient(operation, some) for operation in self._kept]
            yield some, torch.stack(parts).sum(dim=0) / self.points


def smaller(rows: int, keys: int, channels: int, points: int) -> bool:
    """Return whether rows of a matrix are fewer numbers than its factors at all points."""
    return rows * keys <= points * (rows + keys) * channels


def _side_by_side(
    operation: AttentionOperation, rows: torch.Tensor, points: int
) -> AttentionOperation:
    """Return an operation whose gradient of the weights is the sum over points in its batch axis.

    Batch (point, image * window) becomes (image * window), channels (point * channel).
    """
    if operation.output_gradient is None:
        raise UnsupportedMethodError(f"{operation.name} was observed without gradients.")

    def merged(tensor: torch.Tensor) -> torch.Tensor:
        apart = tensor.reshape(points, -1, *tensor.shape[1:])
        return apart.permute(1, 2, 3, 0, 4).flatten(3)

    gradient = merged(operation.output_gradient[:, :, rows])
    return replace(
        operation,
        value=merged(operation.value),
        output=gradient,
        output_gradient=gradient,
        query=None,
        key=None,
        bias=None,
        explicit=None,
    )


def _gradient(operation: AttentionOperation, rows: torch.Tensor) -> torch.Tensor:
    found = operation.gradient_rows(rows)
    assert found is not None  # noqa: S101  checked where it was made
    return found
