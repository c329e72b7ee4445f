"""Networks with linear attention: walks are refused by name, class activation maps are drawn."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from torch import nn

import visattn
from tests import zoo
from visattn.adapters import Refusal, Site, find_adapter
from visattn.errors import UnsupportedMethodError
from visattn.images import Size
from visattn.observation import observe

SIZE = (64, 128)


def small(name: str, **changes: object) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=5, **changes)


NETWORKS = {
    "additive attention": small("swiftformer_xs", embed_dims=[8, 8, 16, 16], layers=[1, 1, 1, 1]),
    "a state space": small("efficientvim_m1", embed_dim=(16, 16, 16), depths=(1, 1, 1)),
    "linear attention": small("efficientvit_b0"),
    "separable attention": small("mobilevitv2_050"),
}
network = pytest.mark.parametrize("kind", NETWORKS)


def built(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[kind]().eval()


@network
def test_walks_are_refused_with_the_kind_of_attention(kind: str) -> None:
    adapter = find_adapter(built(kind))
    refused = adapter.chain(Size(*SIZE))
    assert adapter.family == "linear_attention"
    assert isinstance(refused, Refusal)
    assert kind in refused.reason
    with pytest.raises(UnsupportedMethodError, match=kind):
        visattn.explain(adapter.module, zoo.images(1, SIZE), method="rollout")


@network
def test_the_head_reads_only_the_declared_feature_map(kind: str) -> None:
    """Its gradient is the same everywhere, as an average's must be."""
    module = built(kind)
    site = find_adapter(module).cam_site()
    assert isinstance(site, Site)
    score: Callable[[torch.Tensor], torch.Tensor] = lambda outputs: outputs[:, 1]  # noqa: E731
    seen = observe(module, zoo.images(1, SIZE), attention=False, sites=[site], score=score)
    gradient = seen.activations[site].gradient
    assert gradient is not None
    assert gradient.abs().max() > 0
    assert torch.allclose(gradient, gradient[..., :1, :1].expand_as(gradient))


@network
def test_class_activation_maps_are_drawn(kind: str) -> None:
    module, image = built(kind), zoo.images(1, SIZE)
    maps = [
        visattn.explain(module, image, method="gradcam", target=label)[0].grid for label in range(5)
    ]
    assert all(grid.shape[1] == 2 * grid.shape[0] for grid in maps)
    assert max(grid.max() for grid in maps) > 0


def test_hidden_states_are_named() -> None:
    assert "hidden states" in find_adapter(built("a state space")).notes[0]
