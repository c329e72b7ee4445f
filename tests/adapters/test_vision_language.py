"""Encoders of vision-language models on their own: merged tokens, no fixed read-out."""

from __future__ import annotations

import pytest
import torch
from timm.models.deepseek_vit import DeepseekVitEncoder
from timm.models.qwen3_vit import Qwen3VitEncoder
from torch import nn

import visattn
from tests import zoo
from visattn.adapters import Chain, Refusal, find_adapter
from visattn.errors import UnsupportedMethodError
from visattn.images import Size

SMALL = {"embed_dim": 32, "depth": 2, "num_heads": 2, "out_features": 24}


def qwen() -> nn.Module:
    torch.manual_seed(0)
    module: nn.Module = Qwen3VitEncoder(**SMALL, pos_embed_grid_size=4)
    return module.eval()


def test_merged_tokens_are_what_a_query_names() -> None:
    """Untrained attention is nearly uniform: the residual path shows the patches of the token.

    The query is a patch of the map; the token that it was merged into is meant.
    """
    maps = visattn.explain(qwen(), zoo.images(1, (64, 96)), method="rollout", query=(3, 4))
    hottest = torch.from_numpy(maps[0].grid.copy()).flatten().topk(4).indices
    assert maps[0].grid.shape == (4, 6)
    assert {divmod(int(cell), 6) for cell in hottest} == {(2, 4), (2, 5), (3, 4), (3, 5)}


def test_an_encoder_without_head_asks_for_a_query() -> None:
    with pytest.raises(UnsupportedMethodError, match="merge"):
        visattn.explain(qwen(), zoo.images(1, (64, 96)), method="rollout")


def test_a_rest_of_the_grid_keeps_its_whole_share() -> None:
    """4 x 7 patches, aligned 3 x 3: the last merged token is made of one patch."""
    chain = find_adapter(DeepseekVitEncoder(**SMALL)).chain(Size(56, 98))
    assert isinstance(chain, Chain)
    assert isinstance(chain.readout, Refusal)
    assert tuple(chain.end.grid) == (2, 3)
    merging = chain.steps[-1].skip
    assert merging is not None
    assert merging.matrix()[-1].nonzero().flatten().tolist() == [27]
