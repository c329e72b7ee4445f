"""ViT-CX (Xie, Li, Cao & Zhang, IJCAI 2023): causal impact of masks made of token channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from visattn.adapters import Adapter, Refusal, Site
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.feature_map import Cell, FeatureMap, channels_at
from visattn.methods.method import Maps, Method, Passes
from visattn.methods.registry import METHODS
from visattn.methods.seeding import generator
from visattn.observation import AttentionRecord
from visattn.progress import progress
from visattn.targets import probabilities

CHANNELS = 768
FLAT = 1e-6


@METHODS.register("vit_cx")
@dataclass(frozen=True)
class ViTCX(Method):
    """What the image loses without, and keeps with, what a cluster of token channels shows.

    Every channel of the patch tokens that enter the last attention (`Adapter.cam_site`), enlarged
    bilinearly to the input and scaled to 0..1, is a mask. Masks are clustered (agglomerative,
    complete linkage, cosine distance up to ``threshold``), summed in each cluster and scaled again:
    K masks M_k. With e_k = ``noise`` N(0, 1) per pixel and channel of the normalised input,
    ``s_k = p(x * M_k + e_k (1 - M_k)) - p(x + e_k (1 - M_k)) + p(x)``,
    ``m = 1/K sum_k s_k M_k / sum_k' M_k'`` at every input pixel, p the probability of the explained
    class, or the score where there is no class, in units of p / K. Below zero a cluster speaks
    against the class; a map that has no such value, as most have, is not drawn as a signed one,
    because all of it lies far above zero.

    Class-specific; 2 K forward passes, ``chunk`` inputs at a time; K, often about 60, is known when
    the clusters are, before these passes begin. Channels stay on the token grid, so that memory
    beyond a chunk is D (N + D). Tokens cannot be dropped instead: the masks are not binary.

    Xie, Li, Cao & Zhang, IJCAI 2023. Departures from the reference: any grid and prefix, where it
    has 14 x 14 and a class token; channels that are constant are left out, where it divides 0 by 0;
    a pixel that no mask shows gets 0; noise is seeded by the image.
    """

    class_specific: ClassVar[bool] = True
    signed: ClassVar[bool] = True
    memory: ClassVar[str] = "pixels"
    formula: ClassVar[str] = "1/K sum_k s_k M_k / sum_k' M_k'"
    applies: ClassVar[str] = "tokens of transformers"
    paper: ClassVar[str] = "Xie, Li, Cao & Zhang, IJCAI 2023"

    threshold: float = 0.1
    noise: float = 0.1
    seed: int = 0
    chunk: int = 32

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise UnsupportedMethodError(f"threshold={self.threshold!r} is not in [0, 1].")
        if not 0 <= self.noise < float("inf"):
            raise UnsupportedMethodError(f"noise={self.noise!r} is not a finite number from 0.")
        if self.chunk < 1:
            raise UnsupportedMethodError(f"chunk={self.chunk!r} is not at least 1.")

    def sites(self, adapter: Adapter) -> tuple[Site, ...]:
        """Return the tokens that become masks."""
        site = adapter.cam_site()
        return () if isinstance(site, Refusal) else (site,)

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return why the family has no tokens to make masks of, or None."""
        site, layout = adapter.cam_site(), adapter.layout(size)
        if isinstance(site, Refusal):
            return site.reason
        if site.axes != "tokens":
            return (
                f"it makes masks of patch tokens, and the {site} of the {adapter.family} family is "
                "a feature map; use rise or scorecam"
            )
        return layout.reason if isinstance(layout, Refusal) else None

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return two passes per channel, as if no two channels were alike, and the first.

        Where the number of channels is not known it is taken for that of a ViT-B.
        """
        del size
        known = [channels_at(adapter, site) for site in self.sites(adapter)]
        return Passes(1 + 2 * (known[0] if known and known[0] else CHANNELS), at_most=True)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return the causal impact of the pixels; masks of all images come before any pass."""
        del geometries
        (site,) = self.sites(record.adapter)
        features = FeatureMap.of(record, site, trusted=True)
        enlarge = Enlarge(Size(*features.values.shape[2:]), features.cell, record.size)
        channels = features.values.flatten(2).cpu().double()
        planes = [self.clusters(each, enlarge) for each in channels]
        ends = np.cumsum([2 * len(each) for each in planes]).tolist()
        progress("vit_cx", 0, ends[-1])
        values = [
            self._impact(record, index, each, enlarge, ends) for index, each in enumerate(planes)
        ]
        none = "every channel of the tokens is constant, so there is no mask"
        return Maps(
            torch.stack(values),
            (1.0, 1.0),
            warnings=[[] if len(each) else [none] for each in planes],
            facts={"layer": str(site)},
            measured=[{"masks": len(each)} for each in planes],
            signed=[bool((each < 0).any()) for each in values],
        )

    def clusters(self, planes: torch.Tensor, enlarge: Enlarge) -> torch.Tensor:
        """Return masks (mask, patch) on the token grid from channels (channel, patch)."""
        planes = enlarge.scaled(planes, self.chunk)
        if len(planes) < 2:
            return planes  # nothing to cluster
        labels = torch.from_numpy(clustered(enlarge.products(planes), self.threshold))
        sums = planes.new_zeros(int(labels.max()) + 1, planes.shape[1])
        return enlarge.scaled(sums.index_add_(0, labels, planes), self.chunk)

    def _impact(
        self,
        record: AttentionRecord,
        index: int,
        planes: torch.Tensor,
        enlarge: Enlarge,
        ends: Sequence[int],
    ) -> torch.Tensor:
        """Return the map (row, col) of one image from its masks (mask, patch)."""
        random = generator(record.images[index], self.seed)
        weighted, covered = torch.zeros(2, *record.size, dtype=torch.float64)
        done = ends[index] - 2 * len(planes)
        for part in torch.split(planes, max(1, self.chunk // 2)) if len(planes) else ():
            masks = enlarge(part).clamp(min=0)
            weighted += torch.tensordot(self._scores(record, index, masks, random), masks, dims=1)
            covered += masks.sum(dim=0)
            done += 2 * len(part)
            progress("vit_cx", done, ends[-1])
        return torch.where(covered > 0, weighted / covered, 0.0) / max(1, len(planes))

    def _scores(
        self, record: AttentionRecord, index: int, masks: torch.Tensor, random: torch.Generator
    ) -> torch.Tensor:
        """Return the causal impact (mask,) of masks (mask, row, col)."""
        again, image = record.again, record.inputs[index]
        noise = [torch.randn(image.shape, generator=random) for _ in masks]
        shown = masks[:, None].to(image)
        disturbed = self.noise * torch.stack(noise).to(image) * (1 - shown)
        inputs = torch.cat([image * shown + disturbed, image + disturbed])
        found = again.probabilities(inputs, record.indices[index].expand(len(inputs)))
        kept, lost = found.cpu().double().chunk(2)
        whole = probabilities([again.targets[index]], record.outputs[index : index + 1])
        return kept - lost + whole.cpu().double()


class Enlarge:
    """Bilinear enlargement of the token grid to input pixels, constant beyond the outer centres.

    It is linear and its weights sum to one, so what is known of masks on the grid need not be
    computed again on pixels.
    """

    def __init__(self, grid: Size, cell: Cell, size: Size) -> None:
        self.grid = grid
        extents = cell or (size.height / grid.height, size.width / grid.width)
        self.rows, self.cols = (
            interpolation(grid[axis], extents[axis], size[axis]) for axis in (0, 1)
        )

    def __call__(self, planes: torch.Tensor) -> torch.Tensor:
        """Return (mask, row, col) on pixels from (mask, patch)."""
        found: torch.Tensor = self.rows @ planes.reshape(-1, *self.grid) @ self.cols.T
        return found

    def products(self, planes: torch.Tensor) -> torch.Tensor:
        """Return the inner products (mask, mask) of enlarged masks, from masks (mask, patch)."""
        square = self.rows.T @ self.rows @ planes.reshape(-1, *self.grid)
        found: torch.Tensor = (square @ (self.cols.T @ self.cols)).flatten(1) @ planes.T
        return found

    def scaled(self, planes: torch.Tensor, chunk: int) -> torch.Tensor:
        """Return planes (mask, patch) whose enlargements have minimum 0 and maximum 1.

        Constant ones, which cannot be scaled, are left out.
        """
        ends = [self(part).flatten(1).aminmax(dim=1) for part in torch.split(planes, chunk)]
        low, high = (torch.cat(each)[:, None] for each in zip(*ends, strict=True))
        varied = (high - low > FLAT * torch.maximum(high.abs(), low.abs()))[:, 0]
        return (planes[varied] - low[varied]) / (high - low)[varied]


def interpolation(cells: int, extent: float, side: int) -> torch.Tensor:
    """Return linear interpolation (pixel, cell) between centres of cells, ``extent`` pixels each.

    Pixels beyond the outermost centres get the outermost values.
    """
    places = ((torch.arange(side, dtype=torch.float64) + 0.5) / extent - 0.5).clamp(0, cells - 1)
    distance = places[:, None] - torch.arange(cells)
    return (1 - distance.abs()).clamp(min=0)


def clustered(products: torch.Tensor, threshold: float) -> np.typing.NDArray[np.int64]:
    """Return the cluster (mask,) of masks with inner ``products`` (mask, mask), first ones first.

    Agglomerative, complete linkage: no two masks of a cluster are farther apart than ``threshold``
    in cosine distance.
    """
    norms = products.diagonal().sqrt()
    distances = (1 - products / (norms[:, None] * norms)).clamp(min=0).numpy()
    tree = hierarchy.linkage(squareform(distances, checks=False), method="complete")
    labels = hierarchy.fcluster(tree, threshold, criterion="distance")
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[inverse]
