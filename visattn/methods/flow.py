"""Attention flow (Abnar & Zuidema, ACL 2020), by exact maximum flows of scipy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import maximum_flow

from visattn.adapters import Adapter, Chain, Step, chain_of
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.artefacts import Artefacts
from visattn.methods.heads import fuse
from visattn.methods.layers import choose
from visattn.methods.method import Maps, Method
from visattn.methods.registry import METHODS
from visattn.methods.transition import Transition, check_share
from visattn.methods.treatment import Treatment
from visattn.methods.walk import Walk
from visattn.observation import AttentionRecord
from visattn.progress import progress

UNIT = 2**30  # of integer capacity; scipy reckons in 32 bits and overflows silently beyond them
FULL = 0.999


@METHODS.register("flow")
@dataclass(frozen=True)
class Flow(Method):
    """Maximum flow from the tokens that the head reads to each patch, through all layers.

    Nodes are the tokens before and behind each layer; from token i behind layer l to token j before
    it an edge of capacity ``T_ij``, ``T = rownorm(rho I + (1 - rho) fuse_h A)`` as in `rollout`
    (rho = ``residual``, mean over heads in the paper). A super-source sends the read-out row r into
    the last layer, ``r_i`` at most into token i; the value of patch j is the maximum flow from
    there into j, one flow for each patch, in 0..1: several patches can each have 1, and often do,
    because every cut behind a wide layer is large. The map says so when most patches are full.
    Windows, merging and pooling heads are steps as in `rollout`. Class-agnostic.

    Computed by Dinic's algorithm on capacities rounded to multiples of ``2^-30``, so a value is off
    by at most (number of edges) * 2^-31 (``flow_error`` in the provenance). The graph of all layers
    is held, L N^2 edges: refused above ``max_patches`` patches. 256 patches and 12 layers take
    about 40 s on one core; time grows as the cube of their number.

    Abnar & Zuidema, ACL 2020; their code divides each row of flows by its sum, values here are raw.
    """

    attention: ClassVar[bool] = True
    walks: ClassVar[bool] = True
    memory: ClassVar[str] = "L N^2"
    applies: ClassVar[str] = "attention over at most 256 patches"
    formula: ClassVar[str] = "maximum flow r -> patch, capacities rho I + (1 - rho) fuse A"
    paper: ClassVar[str] = "Abnar & Zuidema, ACL 2020"

    residual: float = 0.5
    start_layer: int = 0
    layers: Any = None
    heads: Any = "mean"
    query: Any = None
    max_patches: int = 256

    def __post_init__(self) -> None:
        check_share("flow", "residual", self.residual)

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why there is no walk, or that its graph would be too large."""
        reason, chain = super().refusal(adapter, size), chain_of(adapter, size)
        if reason is not None or not isinstance(chain, Chain):
            return reason
        most = max(layout.patches for layout in (*(s.before for s in chain.steps), chain.end))
        if most <= self.max_patches:
            return None
        return (
            f"its graph would have {most} patches in a layer, more than max_patches="
            f"{self.max_patches}; use a smaller image_size, or raise max_patches and wait"
        )

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the flow into each patch of the finest grid."""
        walk = Walk.of(record)
        start = walk.start(self.query, geometries)
        chosen = choose(len(walk.layers), self.layers, self.start_layer)
        steps = list(self._matrices(walk, chosen))
        places = walk.chain.layout.places
        tokens, flows = range(places.start, places.stop), list[list[float]]()
        graphs = [
            Graph.of(row, [matrix[image] for matrix in steps]) for image, row in enumerate(start)
        ]
        progress("flow", 0, len(graphs) * len(tokens))
        for done, graph in enumerate(graphs):
            flows.append([])
            for index, token in enumerate(tokens, start=1):
                flows[-1].append(graph.flow(token))
                progress("flow", done * len(tokens) + index, len(graphs) * len(tokens))
        values = torch.tensor(flows, dtype=torch.float64)
        return Maps(
            values.reshape(-1, *walk.chain.layout.grid),
            walk.chain.layout.cell,
            warnings=_notes(values),
            facts={"readout": walk.start_name(self.query), "layers": chosen},
            measured=[{"flow_error": graph.error} for graph in graphs],
        )

    def _matrices(self, walk: Walk, chosen: Sequence[int]) -> Iterator[torch.Tensor]:
        """Yield T (batch, token after, token before) of each step, the last first."""
        transition = Transition(
            self.residual,
            lambda block: fuse(block.attn, self.heads),
            Treatment("keep", Artefacts(walk)),
            stochastic=self.heads == "mean",
        )
        after = walk.start(self.query, ()).shape[1] if self.query is None else 0
        for step, attends in walk.steps(self.query, chosen):
            after = after or walk.chain.end.tokens
            yield _matrix(transition, step, attends, after, walk)
            after = step.before.tokens


@dataclass(frozen=True, eq=False)
class Graph:
    """Capacities of one image between a super-source (node 0) and the tokens of the first layer.

    Attributes:
        capacities: integers in units of 1 / `UNIT`, (node, node).
        first: node of the first token before the first layer.
    """

    capacities: csr_array
    first: int

    @classmethod
    def of(cls, start: torch.Tensor, steps: Sequence[torch.Tensor]) -> Graph:
        """Return the graph of a row (token,) and matrices (token after, token before)."""
        sources, targets, units, node = [], [], [], 0
        for step in (start[None], *steps):
            matrix = step.double().cpu().numpy()
            whole = np.rint(matrix * UNIT).astype(np.int32)
            rows, columns = whole.nonzero()
            sources.append(rows + node)
            targets.append(columns + node + len(matrix))
            units.append(whole[rows, columns])
            node += len(matrix)
        places = (np.concatenate(sources), np.concatenate(targets))
        nodes = node + matrix.shape[1]
        edges = coo_array((np.concatenate(units), places), shape=(nodes, nodes))
        return cls(csr_array(edges), node)

    @property
    def error(self) -> float:
        """Bound on the error of a flow: half a unit for every edge that a cut may hold."""
        return float(self.capacities.nnz / (2 * UNIT))

    def flow(self, token: int) -> float:
        """Return the maximum flow into a token before the first layer."""
        return float(maximum_flow(self.capacities, 0, self.first + token).flow_value / UNIT)


def _matrix(
    transition: Transition, step: Step, attends: bool, after: int, walk: Walk
) -> torch.Tensor:
    """Return a step (batch, token after, token before), row by row."""
    units = torch.eye(after).to(walk.start("mean", ()))
    rows = [transition(step, unit.expand(walk.record.batch, -1), attends) for unit in units]
    return torch.stack(rows, dim=1)


def _notes(values: torch.Tensor) -> list[list[str]]:
    shares = values.gt(FULL).double().mean(dim=1).tolist()
    return [
        [f"{share:.0%} of the patches have a flow of 1, all that is sent: they have no order"]
        if share > 0.5
        else []
        for share in shares
    ]
