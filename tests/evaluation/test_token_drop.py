"""Token drop: exact against masked attention in float64, packed, refused where it is not exact."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import visattn
from tests.evaluation.removing import RANDOM, case_of, metric
from visattn.errors import CaptureError, UnsupportedMethodError
from visattn.evaluation.bench import Bench
from visattn.evaluation.measured import Measured
from visattn.evaluation.replacements import REPLACEMENTS, Variant
from visattn.evaluation.sample import Excluded, Sample
from visattn.evaluation.units import Units
from visattn.images import Size

SIZE = Size(32, 48)
GRID = (4, 6)
TINY = {"img_size": tuple(SIZE), "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3,
        "num_classes": 5}  # fmt: skip


def timm_model(name: str, **options: object) -> visattn.Model:
    import timm

    torch.manual_seed(0)
    module = timm.create_model(name, **{**TINY, **options})
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return visattn.load_model(module)


@pytest.fixture(scope="module")
def vit() -> visattn.Model:
    return timm_model("vit_small_patch16_224")


def picture(seed: int = 0, size: Size = SIZE) -> torch.Tensor:
    return torch.randn(3, *size, generator=torch.Generator().manual_seed(seed))


def variant(model: visattn.Model, removed: np.ndarray, seed: int = 0, size: Size = SIZE) -> Variant:
    sample = Sample(f"sample {seed}", model.prepare_tensor(picture(seed, size)))
    return Variant(sample, Units.of(model, size), removed)


def outputs(model: visattn.Model, *variants: Variant, batch_size: int = 32) -> torch.Tensor:
    found = REPLACEMENTS.get("tokens")().outputs(Bench(model, batch_size), variants)
    return torch.cat(list(found))


def some(count: int, seed: int = 0) -> np.ndarray:
    removed = np.zeros(math.prod(GRID), bool)
    removed[np.random.default_rng(seed).permutation(removed.size)[:count]] = True
    return removed


def masked(vit: torch.nn.Module, image: torch.Tensor, removed: np.ndarray, pool: str) -> np.ndarray:
    """Run timm's blocks in float64 on all tokens, with attention to removed ones at -inf."""
    state = {name: part.double().numpy() for name, part in vit.state_dict().items()}
    scale, heads = state["patch_embed.proj.weight"], 3
    cells = [
        image.double().numpy()[:, 8 * row : 8 * row + 8, 8 * col : 8 * col + 8]
        for row in range(GRID[0])
        for col in range(GRID[1])
    ]
    patches = [np.tensordot(scale, cell, 3) + state["patch_embed.proj.bias"] for cell in cells]
    registers = state.get("reg_token", np.zeros((1, 0, 24)))[0]
    prefix = [*state["cls_token"][0], *registers]
    tokens = np.array(patches) + state["pos_embed"][0][-len(patches) :]
    if state["pos_embed"].shape[1] > len(patches):
        prefix = [*(np.array(prefix[:1]) + state["pos_embed"][0][:1]), *prefix[1:]]
    tokens = np.concatenate([np.array(prefix), tokens])
    hidden = np.concatenate([np.zeros(len(prefix), bool), removed])

    def norm(x, name):
        normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return normed * state[f"{name}.weight"] + state[f"{name}.bias"]

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    for place in range(2):
        block = f"blocks.{place}"
        qkv = linear(norm(tokens, f"{block}.norm1"), f"{block}.attn.qkv")
        q, k, v = (part.reshape(-1, heads, 8).transpose(1, 0, 2) for part in np.split(qkv, 3, -1))
        scores = q @ k.transpose(0, 2, 1) / math.sqrt(8)
        scores[:, :, hidden] = -np.inf
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = (weights @ v).transpose(1, 0, 2).reshape(len(tokens), 24)
        tokens = tokens + linear(mixed, f"{block}.attn.proj")
        inner = linear(norm(tokens, f"{block}.norm2"), f"{block}.mlp.fc1")
        inner = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        tokens = tokens + linear(inner, f"{block}.mlp.fc2")
    if pool == "token":
        return linear(norm(tokens, "norm")[0], "head")
    kept = tokens[len(prefix) :][~removed]
    return linear(norm(kept.mean(0), "fc_norm"), "head")


@pytest.mark.parametrize("count", [0, 1, 11, 23])
@pytest.mark.parametrize(
    ("pool", "options"),
    [("token", {}), ("avg", {}), ("token", {"reg_tokens": 2, "no_embed_class": True})],
)
def test_dropping_is_masking_attention_in_float64(pool, options, count) -> None:
    model = timm_model("vit_small_patch16_224", global_pool=pool, **options)
    removed = some(count)
    found = outputs(model, variant(model, removed))[0].numpy()
    expected = masked(model.module, picture(), removed, pool)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_small_patch16_224", {}),
        ("vit_small_patch14_reg4_dinov2", {"num_classes": 0}),
        ("deit_tiny_distilled_patch16_224", {}),
        ("deit3_small_patch16_224", {}),
        ("vit_base_patch16_siglip_224", {}),
    ],
)
def test_keeping_all_tokens_is_the_model_itself(name, options) -> None:
    model = timm_model(name, **options)
    plain = model.run(picture()[None])
    kept = outputs(model, variant(model, some(0)))
    np.testing.assert_allclose(kept, plain, rtol=1e-6, atol=1e-6)
    assert not np.allclose(outputs(model, variant(model, some(5))), plain, atol=1e-4)


@pytest.mark.parametrize("name", ["reference:vit", "torchvision"])
def test_other_sources_keep_all_tokens_too(name) -> None:
    if name == "torchvision":
        from torchvision.models import VisionTransformer

        torch.manual_seed(0)
        module = VisionTransformer(32, 8, 2, 3, 24, 48, num_classes=5)
        torch.nn.init.normal_(module.heads.head.weight)  # zero at birth
        model, size = visattn.load_model(module), Size(32, 32)
    else:
        model = visattn.load_model(name)
        size = model.input_size
    units = Units.of(model, size)
    assert REPLACEMENTS.get("tokens")().refusal(model, size, everything=True) is None
    kept, less = np.zeros(units.count, bool), np.arange(units.count) % 2 == 0
    plain = model.run(picture(size=size)[None])
    found = outputs(model, variant(model, kept, size=size), variant(model, less, size=size))
    np.testing.assert_allclose(found[:1], plain, rtol=1e-5, atol=1e-6)
    assert not np.allclose(found[1], plain[0], atol=1e-4)


def test_transformers_keep_all_tokens_too() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=48,
        image_size=32, patch_size=8, num_labels=5,
    )  # fmt: skip
    model, size = visattn.load_model(transformers.ViTForImageClassification(config)), Size(32, 32)
    assert REPLACEMENTS.get("tokens")().refusal(model, size) is None
    kept = np.zeros(16, bool)
    plain = model.run(picture(size=size)[None])
    found = outputs(model, variant(model, kept, size=size))
    np.testing.assert_allclose(found, plain, rtol=1e-5, atol=1e-6)


def test_inputs_are_packed_across_samples_and_come_back_in_order(vit) -> None:
    known = [variant(vit, some(count, seed), seed) for seed in range(3) for count in (3, 9, 20)]
    packed = outputs(vit, *known)
    sizes: list[tuple[int, ...]] = []
    handle = vit.module.blocks[1].register_forward_pre_hook(
        lambda _, arguments: sizes.append(tuple(arguments[0].shape[:2]))
    )
    one_by_one = torch.cat([outputs(vit, each) for each in known])
    sizes.clear()
    outputs(vit, *known)
    handle.remove()
    assert sorted(sizes) == [(3, 5), (3, 16), (3, 22)]
    np.testing.assert_allclose(packed, one_by_one, rtol=1e-5, atol=1e-5)
    small = outputs(vit, *known, batch_size=2)
    np.testing.assert_allclose(small, one_by_one, rtol=1e-5, atol=1e-5)


def test_every_input_counts_as_one_pass(vit) -> None:
    bench = Bench(vit)
    grid = np.random.default_rng(0).random(GRID)
    own = metric("srg", fill="tokens", steps=6)
    (found,) = own.measure(bench, [case_of(vit, picture(), grid)])
    assert isinstance(found, Measured)
    assert bench.passes == own.cost().forward == 11


@pytest.mark.parametrize("name", ["srg", "deletion", "road", "sufficiency", "saco"])
def test_a_batch_is_many_singles(vit, name) -> None:
    def cases():
        return [
            case_of(vit, picture(seed), np.random.default_rng(seed).random(GRID), name=str(seed))
            for seed in range(3)
        ]

    own = metric(name, fill="tokens")
    together = [each.value for each in own.measure(Bench(vit), cases())]
    alone = [own.measure(Bench(vit), [case])[0].value for case in cases()]
    assert together == pytest.approx(alone, abs=1e-5)
    assert len(set(together)) == 3


def test_nothing_is_left_behind_also_after_an_error(vit) -> None:
    def hooks() -> list[int]:
        return [len(part._forward_pre_hooks) for part in vit.module.modules()]

    before, state = hooks(), torch.get_rng_state()
    vit.module.train()

    class Broken(Bench):
        def run(self, batch):
            super().run(batch)
            raise RuntimeError("broken off")

    with pytest.raises(RuntimeError, match="broken off"):
        list(REPLACEMENTS.get("tokens")().outputs(Broken(vit), [variant(vit, some(3))]))
    assert hooks() == before
    assert torch.equal(torch.get_rng_state(), state)
    assert vit.module.training
    vit.module.eval()
    assert all(weight.grad is None for weight in vit.module.parameters())


def test_a_pass_that_never_reaches_the_blocks_is_an_error(vit) -> None:
    class Idle(Bench):
        def run(self, batch):
            return torch.zeros(batch.shape[0], 5)

    with pytest.raises(CaptureError, match="no token was dropped"):
        list(REPLACEMENTS.get("tokens")().outputs(Idle(vit), [variant(vit, some(3))]))


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("swin_tiny_patch4_window7_224", {"img_size": 224}, "swin"),
        ("eva02_tiny_patch14_224", {}, "positions of the eva family"),
        ("vit_relpos_small_patch16_224", {}, "are not part of its tokens"),
        ("resnet18", {}, "stream of tokens"),
    ],
)
def test_where_it_is_not_exact_it_is_refused_by_name(name, options, told) -> None:
    import timm

    model = visattn.load_model(timm.create_model(name, num_classes=3, **options))
    reason = metric("srg", fill="tokens").refusal(model, RANDOM, Size(224, 224))
    assert reason is not None
    assert reason.startswith("fill=tokens: ")
    assert told in reason
    assert metric("srg").refusal(model, RANDOM, Size(224, 224)) is None


@pytest.mark.parametrize("pool", ["avg", "map"])
def test_a_head_that_pools_patches_needs_some(pool) -> None:
    model = timm_model("vit_small_patch16_224", global_pool=pool, class_token=False)
    for name in ("srg", "deletion", "insertion", "aopc"):
        told = metric(name, fill="tokens").refusal(model, RANDOM, SIZE)
        assert "nothing is left to read" in str(told), name
    for name in ("road", "comprehensiveness", "sufficiency", "saco"):
        assert metric(name, fill="tokens").refusal(model, RANDOM, SIZE) is None
        case = case_of(model, picture(), np.random.default_rng(0).random(GRID))
        (found,) = metric(name, fill="tokens").measure(Bench(model), [case])
        # One percent of 24 patches is none, and a mean of no patch is no number.
        lost = Excluded("the score is not finite")
        assert found == lost if (name, pool) == ("sufficiency", "avg") else found != lost


def test_there_is_no_picture_of_missing_tokens(vit) -> None:
    with pytest.raises(UnsupportedMethodError, match="has no input"):
        REPLACEMENTS.get("tokens")().filling(vit, variant(vit, some(1)).sample)
