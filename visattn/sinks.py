"""Attention that says little about the image: mass on prefix tokens, and sink tokens."""

from __future__ import annotations

from typing import Any

import torch

from visattn.adapters import Refusal
from visattn.methods.walk import Walk, mean_step
from visattn.observation import AttentionRecord

SINK = 5.0


def attention_statistics(record: AttentionRecord) -> list[dict[str, Any]]:
    """Return, for each image, two numbers about the last self-attention of a record.

    ``prefix_mass``: share of the read-out row's attention that falls on prefix tokens, 0..1.
    ``outlier_tokens``: number of patch tokens that receive more than 5/N attention on average over
    heads and queries (attention sinks).
    """
    walk = Walk.of(record)
    layout = walk.chain.layout
    last = walk.blocks[-1]
    query = "mean" if isinstance(walk.chain.readout, Refusal) else None
    read = mean_step(last, walk.start(query, (), mean_step))
    everyone = layout.uniform(prefix=True).to(read).expand(record.batch, -1)
    received = mean_step(last, everyone)[:, len(layout.prefix) :]
    prefix = read[:, : len(layout.prefix)].sum(dim=1)
    counts = torch.gt(received, SINK / layout.tokens).sum(dim=1)
    return [
        {"prefix_mass": float(share), "outlier_tokens": int(count)}
        for share, count in zip(prefix, counts, strict=True)
    ]
