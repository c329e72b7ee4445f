"""Hiera: the unrolled order against timm's own, and what is refused."""

from __future__ import annotations

import pytest
import torch
from timm.models.hiera import Hiera, Unroll

from tests import zoo
from visattn.adapters import Chain, Refusal, find_adapter
from visattn.adapters.hiera import unrolled
from visattn.images import Size
from visattn.tokens.windows import token_plane


@pytest.mark.parametrize("strides", [((2, 2), (2, 2)), ((2, 2),), ((1, 3), (2, 1))])
def test_tokens_are_unrolled_as_timm_unrolls_them(strides: tuple[tuple[int, int], ...]) -> None:
    plane = token_plane(Size(8, 12))
    right = Unroll((32, 48), (4, 4), list(strides))(plane.reshape(1, -1, 1))
    assert torch.equal(unrolled(plane, strides), right.flatten())


def test_another_input_size_is_refused() -> None:
    refused = find_adapter(zoo.build("hiera")).chain(Size(96, 96))
    assert isinstance(refused, Refusal)
    assert "96 x 96" in refused.reason


def test_clips_are_refused() -> None:
    stem = {"patch_kernel": (3, 7, 7), "patch_stride": (2, 4, 4), "patch_padding": (1, 3, 3)}
    units = {"mask_unit_size": (1, 8, 8), "q_stride": (1, 2, 2), "sep_pos_embed": True}
    small = {"embed_dim": 8, "stages": (1, 1), "q_pool": 1, "img_size": (4, 64, 64)}
    module = Hiera(**small, **stem, **units, mask_unit_attn=(True, True))
    refused = find_adapter(module).chain(Size(64, 64))
    assert isinstance(refused, Refusal)
    assert "clips" in refused.reason


def test_tokens_that_stay_unrolled_have_no_map() -> None:
    assert isinstance(find_adapter(zoo.build("hiera_unrolled")).cam_site(), Refusal)


def test_walks_of_tokens_that_stay_unrolled_end_on_the_grid() -> None:
    chain = find_adapter(zoo.build("hiera_unrolled")).chain(Size(64, 96))
    assert isinstance(chain, Chain)
    assert tuple(chain.layout.grid) == (16, 24)
    assert tuple(chain.end.grid) == (8, 12)
