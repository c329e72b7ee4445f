"""The norm rule with planted outliers, and where norms are read."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.zoo import FAMILIES, GRID, SIZE, VITS, build, images
from visattn.adapters import find_adapter
from visattn.errors import CaptureError
from visattn.images import Size
from visattn.models import load_model
from visattn.models.inputs import prepare_all
from visattn.observation import record_pass
from visattn.observation.activation import Activation
from visattn.outliers import norm_limit, norm_outliers, stream_norms


@pytest.mark.parametrize("patches", [16, 15])
def test_the_norm_rule_is_median_and_mad_of_each_image(patches: int) -> None:
    generator = torch.Generator().manual_seed(1)
    norms = torch.rand(3, patches, dtype=torch.float64, generator=generator) + 10
    norms[1, 4], norms[2, 9] = 40, 0
    middle = np.median(norms.numpy(), axis=1, keepdims=True)
    spread = np.median(np.abs(norms.numpy() - middle), axis=1, keepdims=True)
    assert np.allclose(norm_limit(norms).numpy(), middle + 5 * 1.4826 * spread, rtol=1e-12)
    assert np.allclose(norm_limit(norms, 2.0).numpy(), middle + 2 * 1.4826 * spread, rtol=1e-12)
    assert norm_outliers(norms).nonzero().tolist() == [[1, 4]]


def test_an_absolute_threshold_replaces_the_rule() -> None:
    norms = torch.tensor([[1.0, 2.0, 3.0, 100.0]])
    assert norm_outliers(norms, 1.5).tolist() == [[False, True, True, True]]


def test_equal_norms_have_no_outliers_and_half_precision_is_widened() -> None:
    assert not norm_outliers(torch.ones(2, 9)).any()
    assert norm_limit(torch.rand(2, 9).to(torch.bfloat16)).dtype == torch.float32


@pytest.mark.parametrize("name", ["class", "registers", "parallel", "eva_registers", "beit_mean"])
def test_norms_are_those_of_the_patch_tokens_behind_each_block(name: str) -> None:
    module = build(name)
    model = load_model(module)
    sites = [site for site in model.adapter.block_sites() if site is not None]
    outputs: list[torch.Tensor] = []
    handles = [
        block.register_forward_hook(lambda _, __, output: outputs.append(output.detach()))
        for block in module.blocks
    ]
    record = record_pass(model, prepare_all(model, images()), sites=sites).record
    for handle in handles:
        handle.remove()
    found = stream_norms(record, record.chain())
    assert sorted(found) == [0, 1, 2]
    for place, output in enumerate(outputs):
        expected = torch.linalg.vector_norm(output[:, -GRID[0] * GRID[1] :], dim=2)
        torch.testing.assert_close(found[place], expected)


PREFIXES = (
    "naflex", "hybrid", "vitamin", "relpos", "swin", "transformers_vit", "transformers_dino",
    "transformers_clip", "transformers_siglip", "transformers_beit", "torchvision_vit",
    "open_clip_vit",
)  # fmt: skip
SITED = [*VITS, *(name for name in FAMILIES if name.startswith(PREFIXES))]


@pytest.mark.parametrize("name", SITED)
def test_every_step_of_a_family_with_sites_has_its_own(name: str) -> None:
    size = FAMILIES[name].size if name in FAMILIES else SIZE
    model = load_model(build(name), image_size=size)
    sites = model.adapter.block_sites()
    assert sites
    read = [site for site in sites if site is not None]
    record = record_pass(model, prepare_all(model, images(size=size)), sites=read).record
    chain = record.chain()
    assert len(sites) == len(chain.steps)
    for place, norms in stream_norms(record, chain).items():
        assert norms.shape == (2, chain.after(place).patches)


def test_a_site_with_other_tokens_is_an_error() -> None:
    model = load_model(build("class"))
    site = model.adapter.block_sites()[1]
    assert site is not None
    record = record_pass(model, prepare_all(model, images()), sites=[site]).record
    record.activations[site] = Activation(site, torch.zeros(2, 7))
    with pytest.raises(CaptureError, match=r"output of blocks.1 has 7 tokens; 16 are declared"):
        stream_norms(record, record.chain())


def test_families_that_do_not_say_have_no_sites() -> None:
    assert find_adapter(build("resnet")).block_sites() == ()
    model = load_model(build("class"))
    record = record_pass(model, prepare_all(model, images())).record
    assert stream_norms(record, model.adapter.chain(Size(48, 80))) == {}
