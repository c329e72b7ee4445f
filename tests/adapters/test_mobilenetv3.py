"""Mobile attention without a residual path: what a token was is lost behind it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests import zoo
from visattn.adapters import Chain, find_adapter
from visattn.images import Size

SIZE = (64, 96)


@pytest.mark.parametrize("name", ["mobilenetv4_no_residual", "mobilenetv4_strided_keys"])
def test_a_residual_path_is_walked_where_the_block_has_one(name: str) -> None:
    """A block whose attention gives nothing gives its input back, or nothing at all."""
    module: Any = zoo.build(name)
    chain = find_adapter(module).chain(Size(*SIZE))
    assert isinstance(chain, Chain)
    place = chain.layers[0]
    block = module.get_submodule(chain.steps[place].placements[0].operation.removesuffix(".attn"))
    block.attn.output.proj.weight.data.zero_()
    inputs = torch.randn(1, 32, 5, 7)
    kept = torch.equal(block(inputs), inputs)
    assert kept == (chain.steps[place].skip is not None)
    assert kept or not block(inputs).any()
