"""Finding the neurons that write high-norm tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from visattn.adapters import Site
from visattn.errors import ConfigError, ModelError
from visattn.models import Model, load_model
from visattn.models.inputs import prepare_all
from visattn.models.state import undisturbed
from visattn.observation import observe
from visattn.outliers import norm_outliers
from visattn.registers.neurons import RegisterNeurons, neuron_readers


def calibrate_registers(
    model: Model | nn.Module | str,
    images: Any,
    *,
    neurons: int = 10,
    threshold: float | None = None,
    layer: int | None = None,
    highest: int | None = None,
    batch_size: int = 8,
) -> RegisterNeurons:
    """Find the MLP neurons that are strongest at the high-norm tokens of a set of images.

    Patch tokens whose norm after block ``layer`` exceeds ``threshold`` are high-norm; a neuron's
    score is its mean ``|activation|`` at them, averaged over the images that have any; the
    ``neurons`` highest scores of blocks 0 to ``highest`` win. Two forward passes per image. Jiang
    et al., NeurIPS 2025, Algorithm 1; the authors use about 500 images, a threshold of 30 for
    OpenCLIP ViT-B/16 (last layer, 10 neurons of the first 6 blocks) and 150 for DINOv2-L (last but
    one, 50 neurons of the first 18).

    Args:
        model: a plain vision transformer of timm.
        images: as for `visattn.explain`.
        neurons: how many to return.
        threshold: a norm, in the units of the model's tokens; None for median + 5 * 1.4826 MAD of
            each image.
        layer: 0 = first block, negative ones count from the end; None for the block after which
            most high-norm tokens are found.
        highest: the last block whose neurons are considered; ``layer`` where it is None.
        batch_size: images per pass.

    Raises:
        ModelError: the model has no such structure, or no token exceeds the threshold.
        ConfigError: an argument is out of range.
    """
    known = model if isinstance(model, Model) else load_model(model)
    readers = neuron_readers(known.module)
    if neurons < 0 or batch_size < 1:
        raise ConfigError(f"neurons={neurons!r}, batch_size={batch_size!r}: at least 0 and 1.")
    found = _high_norm(known, images, batch_size, threshold)
    block = int(found.sum(dim=(1, 2)).argmax()) if layer is None else _block(layer, readers)
    last = block if highest is None else _block(highest, readers)
    marked = found[block]
    if not marked.any():
        limit = "median + 5 * 1.4826 MAD" if threshold is None else f"{threshold:g}"
        raise ModelError(
            f"No patch token of {marked.shape[0]} images exceeds a norm of {limit} after block "
            f"{block} of {known.name}, so there is nothing to calibrate; lower threshold or name "
            "another layer. A model without high-norm tokens needs no test-time registers."
        )
    scores = _scores(known, images, batch_size, readers[: last + 1], marked)
    return _top(scores, neurons, block, threshold, marked)


def _block(index: int, readers: Sequence[nn.Linear]) -> int:
    if not -len(readers) <= index < len(readers):
        raise ConfigError(f"Block {index} is not there: the model has {len(readers)} blocks.")
    return index % len(readers)


def _top(
    scores: list[torch.Tensor],
    count: int,
    layer: int,
    threshold: float | None,
    marked: torch.Tensor,
) -> RegisterNeurons:
    names = [(block, index) for block, row in enumerate(scores) for index in range(len(row))]
    values, places = torch.cat(scores).sort(descending=True, stable=True)
    return RegisterNeurons(
        neurons=tuple(names[place] for place in places[:count].tolist()),
        scores=tuple(values[:count].tolist()),
        layer=layer,
        threshold=threshold,
        tokens=int(marked.sum()),
        images=int(marked.any(dim=1).sum()),
    )


def _batches(model: Model, images: Any, size: int) -> Iterator[torch.Tensor]:
    """Yield inputs (batch, channel, row, col); photographs are read batch by batch."""
    several = isinstance(images, (list, tuple, torch.Tensor))
    for start in range(0, len(images) if several else 1, size):
        part = images[start : start + size] if several else images
        yield model.stack(prepare_all(model, part))


def patch_norms(model: Model, batch: torch.Tensor) -> torch.Tensor:
    """Return the Euclidean norm of each patch token after each block: (block, batch, patch)."""
    module: Any = model.module
    count = len(neuron_readers(module))
    sites = [Site(f"blocks.{index}", "output", "tokens") for index in range(count)]
    seen = observe(module, batch, attention=False, sites=sites)
    tokens = (seen.activations[site].value[:, module.num_prefix_tokens :] for site in sites)
    return torch.stack([block.float().norm(dim=-1).cpu() for block in tokens])


def _high_norm(model: Model, images: Any, size: int, threshold: float | None) -> torch.Tensor:
    """Return which patch tokens are high-norm: (block, image, patch)."""
    marks = []
    for batch in _batches(model, images, size):
        norms = patch_norms(model, batch)
        marks.append(torch.stack([norm_outliers(block, threshold) for block in norms]))
    if len({mark.shape[2] for mark in marks}) > 1:
        raise ModelError("Images of different sizes cannot be calibrated together.")
    return torch.cat(marks, dim=1)


def _scores(
    model: Model, images: Any, size: int, readers: Sequence[nn.Linear], marked: torch.Tensor
) -> list[torch.Tensor]:
    """Return the score (neuron,) of each neuron of each block, in float64."""
    totals = [torch.zeros(reader.in_features, dtype=torch.float64) for reader in readers]
    start = 0
    for batch in _batches(model, images, size):
        part = marked[start : start + len(batch)].to(batch.device)
        start += len(batch)
        with undisturbed(model.module), torch.no_grad(), _summing(readers, part, totals):
            model.module(batch)
    return [total / int(marked.any(dim=1).sum()) for total in totals]


@contextmanager
def _summing(
    readers: Sequence[nn.Linear], marked: torch.Tensor, totals: list[torch.Tensor]
) -> Iterator[None]:
    """Add each image's mean ``|activation|`` at its marked tokens to the totals."""
    shares = marked.double() / marked.sum(dim=1, keepdim=True).clamp(min=1)

    def hook(total: torch.Tensor) -> Any:
        def add(_: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            patches = inputs[0][:, -marked.shape[1] :].abs().double()
            total.add_(torch.einsum("bp,bpn->n", shares, patches).cpu())

        return add

    with ExitStack() as handles:
        for reader, total in zip(readers, totals, strict=True):
            handles.callback(reader.register_forward_pre_hook(hook(total)).remove)
        yield
