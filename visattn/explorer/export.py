"""export: one photo and one model in, one HTML file out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import visattn
from visattn.adapters import Chain, Readout, Refusal, remembered_chains
from visattn.atomic import write_text
from visattn.errors import (
    CaptureError,
    ConfigError,
    ImageError,
    TargetError,
    UnsupportedMethodError,
)
from visattn.explorer.packing import Arrays
from visattn.explorer.page import page
from visattn.explorer.route import embedded_layout, embedded_route
from visattn.images import Size
from visattn.methods import get_method, list_methods
from visattn.methods.artefacts import SINK, Artefacts
from visattn.methods.layers import choose
from visattn.methods.walk import Walk
from visattn.models import Model, Prepared, load_model
from visattn.models.inputs import prepare_all
from visattn.observation import AttentionRecord, record_pass
from visattn.outliers import DEVIATIONS
from visattn.overlay.colormap import table
from visattn.saliency import Target
from visattn.targets import resolve

CLASSES = 5
STOPS = 17
COLORMAPS = ("viridis", "inferno", "cividis")
MIXED = (
    "heads are mixed behind their softmax (talking heads): shown are the weights before that, "
    "whose rows sum to 1"
)
UNSUMMED = "the model changes weights behind their softmax: rows need not sum to 1"


@remembered_chains()
def export(
    model: Model | nn.Module | str,
    image: Any,
    out: str | Path,
    *,
    layers: Any = None,
    target: Any = None,
) -> Path:
    """Write one HTML file in which a reader explores what every patch of a photo attends to.

    The file needs no network and no other file. It holds the query and key of every attention
    operation in float16 and computes attention from them; each is proven here to give back the
    captured weights to `visattn.explorer.operation.TOLERANCE`. Its size grows with the number of
    tokens N, not with N x N: about 4 MB for ViT-S at 224.

    Args:
        model: from `visattn.load_model`, or an ``nn.Module``, or a name.
        image: a path, Pillow image, uint8 array (height, width, 3), or a preprocessed float tensor
            (1, channel, row, col).
        out: the file, .html.
        layers: the layers that are embedded: None for all, an int, a slice or a list of ints,
            negative ones from the end. Others are walked along the residual path in rollouts.
        target: a further class, as for `visattn.explain`, that is listed beside the likeliest.

    Raises:
        ConfigError: ``out`` is no .html file, or cannot be written.
        ImageError: the image cannot be read, or is not one.
        UnsupportedMethodError: the model has no walk over tokens, a layer is not there, or an
            operation does not fit into a page.
        CaptureError: no attention was observed, or it could not be embedded exactly.
        TargetError: the target does not fit the model.
    """
    path = Path(out)
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"{path.name} is no .html file; an explorer is one HTML file.")
    known = model if isinstance(model, Model) else load_model(model)
    (prepared,) = _one(prepare_all(known, image))
    record = _record(known, prepared)
    walk = _walk(known, record)
    arrays = Arrays()
    data = {
        **_about(known, prepared),
        **_classes(known, record, target),
        **_tokens(record, walk, choose(len(walk.layers), layers), arrays),
    }
    write_text(path, page(data, arrays.texts, prepared.image))
    return path


def _one(prepared: list[Prepared]) -> list[Prepared]:
    if len(prepared) != 1:
        raise ImageError(f"An explorer shows one image; {len(prepared)} were given.")
    return prepared


def _record(model: Model, prepared: Prepared) -> AttentionRecord:
    sites = [site for site in model.adapter.block_sites() if site is not None]
    try:
        return record_pass(model, [prepared], sites=sites).record
    except CaptureError as error:
        raise CaptureError(_instead(model, prepared.geometry.input, str(error))) from error


def _walk(model: Model, record: AttentionRecord) -> Walk:
    chain = model.adapter.chain(record.size)
    if isinstance(chain, Refusal):
        raise UnsupportedMethodError(_instead(model, record.size, f"{chain.reason}."))
    if not chain.layers and chain.pool is None:
        aside = "; ".join(dict.fromkeys(chain.aside.values())) or "no attention over tokens"
        raise UnsupportedMethodError(_instead(model, record.size, f"{aside}."))
    return Walk.of(record)


def _instead(model: Model, size: Size, reason: str) -> str:
    """Return why a model cannot be explored, and which methods explain it."""
    names = [n for n in list_methods() if get_method(n)().refusal(model.adapter, size) is None]
    return (
        f"{model.name} cannot be explored: {reason} Methods that apply to it (visattn explain): "
        f"{', '.join(names)}."
    )


def _about(model: Model, prepared: Prepared) -> dict[str, Any]:
    image, geometry = prepared.image, prepared.geometry
    name = image.path.name if image.path else "photo"
    return {
        "name": name.encode("utf-8", "replace").decode("utf-8"),
        "model": model.name,
        "version": visattn.__version__,
        "input": list(geometry.input),
        "original": list(geometry.original),
        "toOriginal": [*geometry.input_to_original.scale, *geometry.input_to_original.offset],
        "colormaps": {name: _stops(name) for name in COLORMAPS},
        "imageNotes": list(image.notes),
    }


def _classes(model: Model, record: AttentionRecord, target: Any) -> dict[str, Any]:
    """Return the likeliest classes and the asked one, or why there are none."""
    outputs = record.outputs.detach()
    asked = [] if target is None else [resolve(target, model, outputs)[0].target]
    found, reason = _likeliest(model, outputs)
    known = {each.index for each in found}
    extra = [each for each in asked if each.index is None or each.index not in known]
    listed = [
        {"label": each.label, "index": each.index, "probability": each.probability}
        for each in (*found, *extra)
    ]
    return {"classes": listed, "noClasses": reason, "asked": [each.index for each in asked]}


def _likeliest(model: Model, outputs: torch.Tensor) -> tuple[list[Target], str | None]:
    """Return the `CLASSES` likeliest classes, and why there are none."""
    if model.adapter.num_classes == 0:
        return [], "This model has no classifier."
    count = max(2, outputs.shape[1]) if outputs.ndim == 2 else CLASSES
    ranks = range(1, min(CLASSES, count) + 1)
    try:
        return [resolve(f"top{rank}", model, outputs)[0].target for rank in ranks], None
    except TargetError as error:
        return [], f"{str(error).partition(': ')[0].rstrip('.')}."  # the rest is for callers


def _tokens(
    record: AttentionRecord, walk: Walk, chosen: list[int], arrays: Arrays
) -> dict[str, Any]:
    chain = walk.chain
    return {
        "steps": embedded_route(record, chain, chosen, arrays),
        "layers": len(walk.layers),
        "pool": chain.pool is not None,
        "embedded": chosen,
        "end": embedded_layout(chain.end),
        **_readout(chain.readout, arrays),
        "rolloutRefusal": chain.refusal.reason if chain.refusal else None,
        "marks": _marks(walk, arrays),
        "sinkFactor": SINK,
        "deviations": DEVIATIONS,
        "notes": _notes(record, chain),
    }


def _readout(readout: Readout | Refusal, arrays: Arrays) -> dict[str, Any]:
    if isinstance(readout, Refusal):
        return {"readout": None, "reads": readout.reason}
    return {"readout": arrays.add(_numbers(readout.row)), "reads": readout.description}


def _marks(walk: Walk, arrays: Arrays) -> list[dict[str, Any]]:
    """Return norms and outliers behind each layer and sinks before it, None where not known."""
    artefacts = Artefacts(walk)
    marks = []
    for place in walk.layers:
        norms, high = artefacts.norms.get(place), artefacts.outliers(place)
        sinks = artefacts.sinks(walk.chain.steps[place])
        marks.append(
            {
                "norms": None if norms is None else arrays.add(_numbers(norms[0])),
                "outliers": None if high is None else _places(high[0]),
                "sinks": None if sinks is None else _places(sinks[0]),
            }
        )
    return marks


def _notes(record: AttentionRecord, chain: Chain) -> list[str]:
    notes = [*record.adapter.notes, *chain.notes]
    if any(operation.mixing is not None for operation in record):
        notes.append(MIXED)
    walked = {p.operation for step in chain.steps for p in step.placements}
    if any(op.normalizer != "softmax" for op in record if op.name in walked):
        notes.append(UNSUMMED)
    reasons: dict[str, list[str]] = {}
    for name, reason in chain.aside.items():
        reasons.setdefault(reason, []).append(name)
    notes += [f"not shown: {', '.join(names)} ({reason})" for reason, names in reasons.items()]
    return list(dict.fromkeys(notes))


def _numbers(tensor: torch.Tensor) -> np.ndarray[Any, Any]:
    found: np.ndarray[Any, Any] = tensor.detach().float().cpu().numpy()
    return found


def _places(flags: torch.Tensor) -> list[int]:
    found: list[int] = flags.nonzero().reshape(-1).tolist()
    return found


def _stops(name: str) -> list[list[int]]:
    colours = table(name)
    picked = [colours[round(i * (len(colours) - 1) / (STOPS - 1))] for i in range(STOPS)]
    return [[round(part) for part in colour] for colour in picked]
