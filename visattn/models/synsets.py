"""Synsets: WordNet's numbers of the classes of ImageNet-1k."""

from __future__ import annotations

from functools import cache


@cache
def imagenet_synsets() -> dict[str, tuple[int, str]]:
    """Return index and names (``tench, Tinca tinca``) of each class by its number, ``n01440764``.

    The order is that of the outputs of models for ImageNet-1k (ILSVRC 2012).
    """
    from timm.data import ImageNetInfo

    info = ImageNetInfo("imagenet-1k")
    return {
        synset: (index, str(info.index_to_description(index)))
        for index, synset in enumerate(info.label_names())
    }
