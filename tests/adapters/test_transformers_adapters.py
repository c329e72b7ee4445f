"""Models of transformers, beyond the proofs of tests/adapters/test_families.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import visattn
from tests import zoo
from tests.methods import steps_oracle
from visattn.adapters import Chain, Readout, Refusal, find_adapter
from visattn.errors import UnsupportedMethodError
from visattn.images import Size
from visattn.observation import capture

pytest.importorskip("transformers")
from tests.zoo import transformers_models as library

SIZE = Size(*library.SIZE)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("ViTModel", "ViTConfig"), ("BeitModel", "BeitConfig"), ("Dinov2Model", "Dinov2Config"),
        ("DINOv3ViTModel", "DINOv3ViTConfig"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["rollout", "gae"])
def test_fused_and_eager_attention_give_the_same_map(kind: str, config: str, method: str) -> None:
    inputs = zoo.images(1, SIZE)
    maps = []
    for attention in ("sdpa", "eager"):
        torch.manual_seed(0)
        module = library.vit(kind, config, attention, image_size=80)
        if kind == "ViTModel":
            module = library.interpolating(module)
        target = (lambda outputs: outputs[:, 0]) if method == "gae" else None
        (found,) = visattn.explain(module, inputs, method=method, target=target)
        maps.append(found.grid)
    assert np.allclose(*maps, rtol=1e-3, atol=1e-5 * np.abs(maps[0]).max())
    assert maps[0].shape == (3, 5)


def test_fused_and_eager_attention_give_the_same_map_of_an_object_and_of_a_cell() -> None:
    """DETR by object query; a segmenter, whose head reads all stages, by a cell of the last one."""
    asked: list[tuple[Any, Any, tuple[int, int]]] = [
        (library.detr, "object 1", (96, 160)),
        (
            lambda attention: library.pvt(
                "SegformerForSemanticSegmentation", "SegformerConfig", attention
            ),
            (1, 2),
            (64, 96),
        ),
    ]
    for made, query, size in asked:
        maps = []
        for attention in ("sdpa", "eager"):
            torch.manual_seed(0)
            inputs = zoo.images(1, size)
            (found,) = visattn.explain(made(attention), inputs, method="rollout", query=query)
            maps.append(found.grid)
        assert np.allclose(*maps, rtol=1e-3)
        assert maps[0].sum() > 0


# DETR -------------------------------------------------------------------------------------------


def detr() -> tuple[Any, torch.Tensor]:
    module = zoo.build("transformers_detr").double()
    return visattn.load_model(module), zoo.images(1, (96, 160)).double()


def test_an_object_query_is_asked_for_by_its_number() -> None:
    model, inputs = detr()
    with pytest.raises(UnsupportedMethodError, match="query='object 0'"):
        visattn.explain(model, inputs, method="rollout")
    with pytest.raises(UnsupportedMethodError, match=r"object 9.*no such token"):
        visattn.explain(model, inputs, method="rollout", query="object 9")


def test_the_rollout_of_an_object_query_is_the_dense_product() -> None:
    model, inputs = detr()
    record = capture(model, inputs)
    chain = record.chain()
    assert chain.end.prefix == ("object 0", "object 1", "object 2", "object 3")
    product = torch.eye(chain.layout.tokens, dtype=torch.float64)
    for step in chain.steps:
        product = steps_oracle.rollout_matrix(record, step, 0) @ product
    for index in (0, 3):
        (found,) = visattn.explain(model, inputs, method="rollout", query=f"object {index}")
        expected = product[index, chain.layout.places].reshape(3, 5)
        assert np.allclose(found.grid, expected.numpy(), rtol=1e-5)


def test_gradients_of_one_object_reach_its_row() -> None:
    """The gradient of one object's score reaches the attention of that object's row."""
    model, inputs = detr()

    def score(outputs: torch.Tensor) -> torch.Tensor:
        return outputs[:, 2, 1]

    record = capture(model, inputs, gradients_of=score)
    last = record["model.decoder.layers.1.encoder_attn"]
    assert last.output_gradient is not None
    strength = last.output_gradient[0].abs().sum(dim=(0, 2))
    assert (strength > 0).tolist() == [False, False, True, False]


def test_the_grid_of_the_backbone_is_found_without_running_it() -> None:
    module = library.detr()
    adapter = find_adapter(module)
    for size in (Size(96, 160), Size(65, 97)):
        with torch.no_grad():
            features = module.model.backbone(torch.zeros(1, 3, *size), torch.ones(1, *size))[-1][0]
        layout = adapter.layout(size)
        assert not isinstance(layout, Refusal)
        assert layout.grid == tuple(features.shape[-2:])


# Read-outs and refusals ---------------------------------------------------------------------------


def test_a_masked_autoencoder_that_shuffles_is_refused() -> None:
    for options in ({"mask_ratio": 0.75}, {"mask_ratio": 0.0}):
        module = library.vit("ViTMAEModel", "ViTMAEConfig", image_size=48, **options)
        refusal = find_adapter(module).chain(SIZE)
        assert isinstance(refusal, Refusal)
        assert "shuffles its patches" in refusal.reason


@pytest.mark.parametrize(
    ("kind", "config", "options"),
    [
        ("ViTForMaskedImageModeling", "ViTConfig", {}),
        ("ViTMAEModel", "ViTMAEConfig", {"image_size": 48}),
        ("BeitForMaskedImageModeling", "BeitConfig", {}),
        ("Dinov2Backbone", "Dinov2Config", {}),
    ],
)
def test_heads_without_a_fixed_row_ask_for_a_query(
    kind: str, config: str, options: dict[str, Any]
) -> None:
    module = library.mae() if kind == "ViTMAEModel" else library.vit(kind, config, **options)
    chain = find_adapter(module).chain(SIZE)
    assert isinstance(chain, Chain)
    assert isinstance(chain.readout, Refusal)
    assert "choose a query" in chain.readout.reason
    assert len(chain.layers) == 3


def test_a_body_without_pooler_reads_nothing() -> None:
    import transformers

    config = transformers.ViTConfig(**library.BODY)
    chain = find_adapter(transformers.ViTModel(config, add_pooling_layer=False)).chain(SIZE)
    assert isinstance(chain, Chain)
    assert isinstance(chain.readout, Refusal)


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("transformers_vit", 5), ("transformers_vit_eager", 0), ("transformers_swin", 5),
        ("transformers_clip", 0), ("transformers_detr", None), ("transformers_timm", 5),
        ("transformers_segformer", 5), ("transformers_siglip_mean", 5),
    ],
)  # fmt: skip
def test_classes_are_counted_where_there_is_a_classifier(name: str, classes: int | None) -> None:
    assert find_adapter(zoo.build(name)).num_classes == classes


def test_swin_clamps_its_window_to_a_small_grid_as_the_library_does() -> None:
    """The window of 4 covers the last grid of 4 x 6 rows: no shift there, and 3 x 4 would clamp."""
    module = library.swin("SwinModel", "SwinConfig", (64, 96))
    chain = find_adapter(module).chain(Size(64, 96))
    assert isinstance(chain, Chain)
    last = chain.steps[-1].placements[0]
    assert torch.equal(last.keys.columns.reshape(2, -1)[0, :5], torch.tensor([0, 1, 2, 3, 6]))
    assert visattn.explain(module, zoo.images(1, (64, 96)), method="rollout")[0].grid.shape == (
        16,
        24,
    )


def test_distilled_and_dinov2_classifiers_read_two_things() -> None:
    for name, expected in (("deit", [0.5, 0.5, 0]), ("dinov2", [0.5, 1 / 30, 1 / 30])):
        chain = find_adapter(zoo.build(f"transformers_{name}")).chain(SIZE)
        assert isinstance(chain, Chain)
        assert isinstance(chain.readout, Readout)
        assert chain.readout.row[:3].tolist() == pytest.approx(expected)
        assert float(chain.readout.row.sum()) == pytest.approx(1)
