from __future__ import annotations

import itertools
import re

import pytest

from visattn.gallery.slug import slug

TRICKY = [
    "packaged:dinov2_small",
    "packaged_dinov2_small",
    "packaged-dinov2_small",
    "Packaged:dinov2_small",
    "packaged:dinov2:small",
    "packaged/dinov2_small",
    "hf:org/name",
    "hf:org_name",
    "hf_org_name",
    "hf:Org/name",
    "open_clip:ViT-B-16/tag",
    "open_clip:vit-b-16_tag",
    "vit_small_patch16_224",
    "timm:vit_small_patch16_224",
    "vit_small_patch16_224.augreg",
    "a b",
    "a_b",
    "a?b",
    "",
    ".",
    "..",
    "é",
    "x" * 300,
    "x" * 299,
    "\udc80",
]


def test_plain_names_are_readable() -> None:
    assert slug("packaged:dinov2_small") == "packaged_dinov2_small"
    assert slug("vit_small_patch16_224.augreg") == "vit_small_patch16_224.augreg"
    assert slug("integrated_gradients") == "integrated_gradients"


def test_two_names_never_share_a_slug() -> None:
    names = [*TRICKY, *map(slug, TRICKY)]
    for one, other in itertools.combinations(sorted(set(names)), 2):
        assert slug(one).lower() != slug(other).lower(), (one, other)


@pytest.mark.parametrize("name", TRICKY)
def test_a_slug_is_a_safe_file_name(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,80}", slug(name))
