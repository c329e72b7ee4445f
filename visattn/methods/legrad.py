"""LeGrad (Bousselham et al., ICCV 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from visattn.adapters import Adapter, Readout, Refusal, Site, Step, Stream
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.gathering import gradient_of
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method, Passes
from visattn.methods.registry import METHODS
from visattn.methods.walk import Walk
from visattn.models.output import as_scores_tensor
from visattn.models.state import undisturbed
from visattn.observation import AttentionOperation, AttentionRecord, wide
from visattn.observation.observe import LivePass
from visattn.observation.observer import Observer
from visattn.propagation import propagating, rules_named


@METHODS.register("legrad")
@dataclass(frozen=True)
class LayerwiseExplainability(Method):
    """Positive gradient of each layer's own score by that layer's attention, averaged over layers.

    ``s_l = y(head(norm(pool(Z_l))))`` scores the tokens Z behind layer l as if it were the last,
    ``E_l = 1/(H N) sum_h sum_i (ds_l / dA_l_hij)^+`` over patch columns j, map ``mean_l E_l``. The
    pool is the mean over all tokens, also where the model reads its class token; with an
    attention-pooling head it is that head, and the attention differentiated is the head's own, fed
    with Z_l: ``E_l = 1/H sum_h (r ds_l / dA_pool)^+``, r its read-out row. Attention itself is not
    multiplied in. Values >= 0, in units of the score. Class-specific; the class is the one asked
    for, whatever an early layer would say.

    All layers are averaged, as the paper's text says; its code uses the last two by default
    (``layers=[-2, -1]``), adds maps after upsampling, and zeroes SigLIP maps where an empty prompt
    is bright. ``backward`` names rules of the backward pass.

    A gradient crosses one block and the head, so all layers together cost about one backward:
    2 forward and 2 backward passes in all (1 and 1 with an attention pool) and 2 L N^2 D
    operations, without any softmax; memory linear in the number of tokens.

    Bousselham et al., ICCV 2025. Early tokens go through a head that they were not trained for,
    and layers weigh by the scale of their gradients. Plain pre-norm transformers.
    """

    class_specific: ClassVar[bool] = True
    attention: ClassVar[bool] = True
    gradients: ClassVar[bool] = True
    memory: ClassVar[str] = "H b N"
    applies: ClassVar[str] = "plain transformers"
    formula: ClassVar[str] = "mean_l,h,i (d head(mean Z_l) / dA_l)^+"
    paper: ClassVar[str] = "Bousselham et al., ICCV 2025"

    start_layer: int = 0
    layers: Any = None
    backward: str = "plain"

    def __post_init__(self) -> None:
        rules_named(self.backward)

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why the method does not apply: it needs a stream and a head that scores it."""
        stream = adapter.stream()
        if isinstance(stream, Refusal):
            return stream.reason
        if stream.head is None:
            return f"the {adapter.family} adapter does not say how the head scores other tokens"
        return super().refusal(adapter, size)

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return what the local scores cost: together about one pass, with a pool only the head."""
        del size
        stream = adapter.stream()
        pooled = isinstance(stream, Stream) and stream.pool is not None
        return Passes(1, 1) if pooled else Passes(2, 2, at_most=True)

    def sites(self, adapter: Adapter) -> tuple[Site, ...]:
        """Return the tokens behind each chosen layer where the head pools them by attention."""
        stream = adapter.stream()
        if isinstance(stream, Refusal) or stream.pool is None:
            return ()
        return tuple(stream.blocks[layer].after for layer in self._chosen(stream))

    def _chosen(self, stream: Stream) -> list[int]:
        return choose(len(stream.blocks), self.layers, self.start_layer)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the mean over layers on the grid."""
        del geometries
        walk, stream = Walk.of(record), record.adapter.stream()
        assert isinstance(stream, Stream)  # noqa: S101  refused before
        chosen = self._chosen(stream)
        parts = self._local if walk.chain.pool is None else self._pooled
        layout = walk.chain.layout
        return Maps(
            layout.to_grid(torch.stack(parts(walk, stream, chosen)).mean(dim=0)),
            layout.cell,
            facts={"layers": chosen, "pool": stream.pool or "mean of all tokens"},
        )

    def _local(self, walk: Walk, stream: Stream, chosen: list[int]) -> list[torch.Tensor]:
        """Return ``E_l`` (batch, token) of each layer, from one pass whose graph is alive."""
        record = walk.record
        sites = {layer: stream.blocks[layer].after for layer in chosen}
        found = []
        with record.again.live(record.inputs, sites=list(sites.values()), rules=self.rules) as live:
            places = {operation.name: index for index, operation in enumerate(live.operations)}
            for layer, site in sites.items():
                score = self._score(record, stream, live.readings[site].live())
                operations = [
                    replace(record[name], output_gradient=live.gradient(score, places[name]))
                    for name in stream.blocks[layer].operations
                ]
                step = walk.chain.steps[walk.layers[layer]]
                found.append(_columns(walk, step, operations, step.before.uniform(prefix=True)))
        return found

    def _pooled(self, walk: Walk, stream: Stream, chosen: list[int]) -> list[torch.Tensor]:
        """Return ``E_l`` (batch, token) of each layer, from its tokens in the head's own pool."""
        record, pool, readout = walk.record, walk.chain.pool, walk.chain.readout
        assert pool is not None  # noqa: S101  asked before
        assert isinstance(readout, Readout)  # noqa: S101  an attention pool has queries
        module, found = record.again.module, []
        for layer in chosen:
            tokens = record.activations[stream.blocks[layer].after].value
            with undisturbed(module), torch.inference_mode(mode=False), torch.enable_grad():
                observer = Observer(module)
                with observer:
                    score = self._score(record, stream, tokens.clone().requires_grad_())
                live = LivePass(observer, {}, score)
                operations = [
                    replace(operation, output_gradient=live.gradient(score, index))
                    for index, operation in enumerate(live.operations)
                ]
            found.append(_columns(walk, pool, operations, readout.row))
        return found

    def _score(self, record: AttentionRecord, stream: Stream, tokens: torch.Tensor) -> torch.Tensor:
        """Return the explained score of tokens (batch, token, channel), summed over images."""
        assert stream.head is not None  # noqa: S101  refused before
        with propagating(self.rules, record.again.module):
            outputs = as_scores_tensor(stream.head(tokens))
        return record.again.score_of(outputs, record.indices).sum()


def _columns(
    walk: Walk, step: Step, operations: Sequence[AttentionOperation], row: torch.Tensor
) -> torch.Tensor:
    """Return ``r mean_h (G)^+`` (batch, token) of a step whose operations have local gradients."""
    record = replace(walk.record, operations=tuple(operations))
    local, rows = Walk(record, walk.chain), row.to(wide(operations[0].value))
    parts = [
        local.through(placed, rows.expand(record.batch, -1), _product) for placed in step.placements
    ]
    return torch.stack(parts).mean(dim=0)


def _product(operation: AttentionOperation, row: torch.Tensor) -> torch.Tensor:
    """Return ``r mean_h (G)^+``: (batch, query) -> (batch, key)."""
    result = operation.new_row(row)
    for rows in operation.blocks(row):
        part = gradient_of(operation, rows).clamp_(min=0).mean(dim=1)
        result += torch.einsum("bq,bqk->bk", row[:, rows], part)
    return result
