"""Masked and redistributed walks against dense float64 matrices, and on trained weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import visattn
from tests import zoo
from tests.methods import steps_oracle
from visattn.adapters import Readout, Step
from visattn.errors import UnsupportedMethodError
from visattn.methods import get_method
from visattn.methods.treatment import masked
from visattn.models import Model, load_model
from visattn.models.inputs import prepare_all
from visattn.observation import AttentionRecord, record_pass

PLAIN = ("class", "registers", "mean", "latent_pool", "parallel", "eva_registers", "beit_mean")
WINDOWED = ("swin", "swin_padded")
SINK, DEVIATIONS = 1.2, 0.75
OPTIONS: dict[str, Any] = {"sink_factor": SINK, "norm_deviations": DEVIATIONS}


def model_of(name: str) -> Model:
    size = zoo.FAMILIES[name].size if name in zoo.FAMILIES else zoo.SIZE
    return load_model(zoo.build(name).double(), image_size=size)


def inputs_of(name: str) -> torch.Tensor:
    size = zoo.FAMILIES[name].size if name in zoo.FAMILIES else zoo.SIZE
    return zoo.images(2, size).double()


def record_of(name: str) -> AttentionRecord:
    """Gradients of the predicted class, and the tokens behind each block."""
    model = model_of(name)
    method = get_method("rollout")(outliers="mask")
    prepared = prepare_all(model, inputs_of(name))
    return record_pass(model, prepared, target=None, sites=method.sites(model.adapter)).record


@pytest.mark.parametrize("name", PLAIN)
def test_the_models_have_tokens_of_both_kinds(name: str) -> None:
    record = record_of(name)
    steps = record.chain().steps
    pairs = [(steps[1], steps[0]), (steps[2], steps[1])]
    sinks = sum(flags(record, step, None, i).sum() for step, _ in pairs for i in range(2))
    both = sum(flags(record, step, behind, i).sum() for step, behind in pairs for i in range(2))
    assert 0 < sinks < both


def flags(record: AttentionRecord, step: Step, before: Step | None, index: int) -> np.ndarray:
    """Which tokens before a step are sinks in it or norm outliers behind the block before."""
    layout = step.before
    parts = [steps_oracle.dense(record, placed, index) for placed in step.placements]
    received = torch.stack(parts).mean(dim=0).mean(dim=0).numpy()
    found = received > SINK / layout.tokens
    block = name_of(before) if before is not None and before.placements else None
    site = next((s for s in record.activations if s.module == block), None)
    if site is not None:
        norms = record.activations[site].value[index].flatten()[layout.places].numpy()
        median = np.median(norms)
        limit = median + DEVIATIONS * 1.4826 * np.median(np.abs(norms - median))
        found[layout.places] |= norms > limit
    found[: len(layout.prefix)] = False
    return found


def name_of(step: Step) -> str:
    """The block that a step's attention belongs to."""
    found = re.match(r".*blocks\.\d+", step.placements[0].operation)
    assert found is not None
    return found[0]


def hidden(matrix: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """Zero columns, keep the sums of rows, one row at a time."""
    result = matrix.clone()
    for row in range(len(matrix)):
        left = matrix[row] * (1 - columns)
        if left.sum() > 0:
            result[row] = left * matrix[row].sum() / left.sum()
    return result


def layer_matrices(
    record: AttentionRecord, step: Step, index: int, flagged: np.ndarray | None, kind: str
) -> list[torch.Tensor]:
    """``Q X K`` of each parallel operation, X the mean attention or the mean relevance."""
    found = []
    for placed in step.placements:
        operation = record.placed(placed)
        attn = steps_oracle.windows_of(placed, operation, index)
        if kind == "gae":
            gradient = operation.gradient_rows(torch.arange(operation.shape[2]))
            assert gradient is not None
            gradient = gradient.reshape(-1, placed.windows, *gradient.shape[1:])[index]
            attn = (attn * gradient).clamp(min=0)
        matrix = steps_oracle.block_diagonal(attn.mean(dim=1))
        if flagged is not None:
            columns = placed.keys.matrix() @ torch.from_numpy(flagged).double()
            matrix = hidden(matrix, columns)
        found.append(placed.queries.matrix() @ matrix @ placed.keys.matrix())
    return found


def spread(row: torch.Tensor, flagged: np.ndarray, step: Step) -> torch.Tensor:
    """Hand what lies on flagged patches to the other patches, in proportion."""
    result = row.clone()
    patches = range(step.before.places.start, step.before.places.stop)
    others = [i for i in patches if not flagged[i]]
    total = sum(float(row[i]) for i in others)
    taken = sum(float(row[i]) for i in patches if flagged[i])
    if total > 0:
        for i in patches:
            result[i] = 0.0 if flagged[i] else row[i] * (1 + taken / total)
    return result


def naive(record: AttentionRecord, method: str, treatment: str, index: int) -> np.ndarray:
    chain = record.chain()
    assert isinstance(chain.readout, Readout)
    own = chain.readout.row.double()
    gained = torch.zeros_like(own)
    steps = [*chain.steps, *([chain.pool] if chain.pool else [])]
    for place in reversed(range(len(steps))):
        step, behind = steps[place], steps[place - 1] if place else None
        skip = None if step.skip is None else step.skip.matrix()
        flagged = None
        if step.placements:
            flagged = flags(record, step, behind, index)
            if step is chain.pool:
                flagged[:] = norm_only(record, step, behind, index)
        columns = flagged if treatment == "mask" else None
        parts = layer_matrices(record, step, index, columns, method)
        if method == "rollout":
            own = rollout_step(own, parts, skip)
        else:
            added = sum((own + gained) @ part for part in parts)
            nothing = torch.zeros(step.before.tokens, dtype=torch.float64)
            own, gained = (nothing if skip is None else row @ skip for row in (own, gained))
            gained = gained + added
        if treatment == "redistribute" and flagged is not None:
            if method == "rollout":
                own = spread(own, flagged, step)
            else:
                gained = spread(gained, flagged, step)
    found = own if method == "rollout" else gained
    return found[chain.layout.places].numpy()


def rollout_step(
    row: torch.Tensor, parts: list[torch.Tensor], skip: torch.Tensor | None
) -> torch.Tensor:
    if not parts:
        assert skip is not None
        return row @ skip
    mean = torch.stack(parts).mean(dim=0)
    return row @ mean if skip is None else row @ (0.5 * skip + 0.5 * mean)


def norm_only(record: AttentionRecord, step: Step, before: Step | None, index: int) -> np.ndarray:
    """The pooling head attends with one query, so nothing in it is a sink."""
    everything = flags(record, step, before, index)
    without = flags(record, step, None, index)
    return everything & ~without


@pytest.mark.parametrize("treatment", ["mask", "redistribute"])
@pytest.mark.parametrize("method", ["rollout", "gae"])
@pytest.mark.parametrize("name", [*PLAIN, *WINDOWED])
def test_the_walk_is_that_of_dense_matrices(name: str, method: str, treatment: str) -> None:
    record = record_of(name)
    built = get_method(method)(outliers=treatment, **OPTIONS)
    values = built(record, []).values
    kept = get_method(method)()(record, []).values
    assert not torch.allclose(values, kept, rtol=1e-3)
    for index in range(2):
        expected = naive(record, method, treatment, index)
        scale = np.abs(expected).max()
        assert np.abs(values[index].flatten().numpy() - expected).max() / scale < 1e-9


@pytest.mark.parametrize("method", ["rollout", "gae"])
@pytest.mark.parametrize("treatment", ["mask", "redistribute"])
def test_where_nothing_stands_out_nothing_changes(method: str, treatment: str) -> None:
    record = record_of("registers")
    quiet = {"sink_factor": 1e6, "norm_deviations": 1e6}
    treated = get_method(method)(outliers=treatment, **quiet)(record, [])
    plain = get_method(method)()(record, [])
    torch.testing.assert_close(treated.values, plain.values, rtol=1e-12, atol=0)
    assert [list(note) for note in treated.warnings] == [
        [f"outliers={treatment}: 0 tokens {treatment.rstrip('e')}ed in 0 layers"]
    ] * 2
    assert not any(plain.warnings)


@pytest.mark.parametrize("treatment", ["mask", "redistribute"])
@pytest.mark.parametrize("heads", ["mean", "max", [1]])
def test_the_row_keeps_its_sum_under_every_fusion(treatment: str, heads: Any) -> None:
    record = record_of("mean")
    method = get_method("rollout")(outliers=treatment, heads=heads, **OPTIONS)
    sums = method(record, []).values.sum(dim=(1, 2))
    torch.testing.assert_close(sums, torch.ones(2, dtype=torch.float64))


def test_masking_goes_with_discarding() -> None:
    record = record_of("mean")
    method = get_method("rollout")(outliers="mask", discard_ratio=0.5, **OPTIONS)
    values = method(record, []).values
    assert torch.isfinite(values).all()
    torch.testing.assert_close(values.sum(dim=(1, 2)), torch.ones(2, dtype=torch.float64))


def test_a_row_that_goes_to_hidden_columns_alone_stays() -> None:
    matrix = torch.tensor([[[0.2, 0.8, 0.0], [0.5, 0.25, 0.25], [0.0, 0.0, 0.0]]])
    stays = torch.tensor([[0.0, 0.0, 1.0]])
    expected = torch.tensor([[[0.2, 0.8, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]])
    torch.testing.assert_close(masked(matrix, stays), expected)
    assert masked(matrix, None) is matrix


@pytest.mark.parametrize("treatment", ["mask", "redistribute"])
@pytest.mark.parametrize("method", ["rollout", "gae"])
def test_what_was_done_is_written_down(method: str, treatment: str) -> None:
    options = {"outliers": treatment, **OPTIONS}
    maps = visattn.explain(model_of("class"), inputs_of("class"), method=method, **options)
    for found in maps:
        treated = found.provenance["outliers_treated"]
        assert treated
        assert set(treated) <= {"blocks.0.attn", "blocks.1.attn", "blocks.2.attn"}
        assert found.provenance["outlier_rule"] == (
            "attention > 1.2/N or norm > median + 0.75 * 1.4826 MAD"
        )
        assert found.provenance["changed"] == options
        (note,) = [note for note in found.warnings if note.startswith(f"outliers={treatment}")]
        assert f"{sum(treated.values())} tokens" in note
        assert not any("attention sinks" in each for each in found.warnings)


def test_a_family_without_known_norms_says_that_only_attention_was_judged() -> None:
    (found, _) = visattn.explain(
        model_of("hiera"), inputs_of("hiera"), method="rollout", outliers="mask", sink_factor=2.0
    )
    assert found.provenance["outlier_rule"] == "attention > 2/N"
    assert set(found.statistics["norm_outliers"]) == {None}


@pytest.mark.parametrize("treatment", ["mask", "redistribute"])
def test_an_image_is_treated_the_same_in_any_batch(treatment: str) -> None:
    model, batch = model_of("class"), zoo.images(3).double()
    options: dict[str, Any] = {"method": "gae", "outliers": treatment, **OPTIONS}
    together = visattn.explain(model, batch, **options)
    for index, found in enumerate(together):
        (alone,) = visattn.explain(model, batch[index : index + 1], **options)
        assert np.allclose(found.grid, alone.grid, rtol=1e-5)
        assert found.provenance["outliers_treated"] == alone.provenance["outliers_treated"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"outliers": "masks"}, "outliers='masks' is no treatment. Did you mean 'mask'"),
        ({"outliers": None}, "outliers=None is no treatment"),
        ({"sink_factor": 0.0}, "sink_factor=0.0 is not a positive number"),
        ({"norm_deviations": -1.0}, "norm_deviations=-1.0 is not a positive number"),
        ({"sink_factor": float("nan")}, "sink_factor=nan is not a positive number"),
    ],
)
@pytest.mark.parametrize("method", ["rollout", "gae"])
def test_wrong_options_are_refused(method: str, options: dict[str, Any], told: str) -> None:
    with pytest.raises(UnsupportedMethodError, match=told):
        get_method(method).create(method, options)


def test_dinov2_without_its_sinks_shows_more_than_one_cell(photos: Path) -> None:
    model = load_model("packaged:dinov2_small", image_size=448)
    photo = photos / "astronaut.jpg"
    sharpness = {}
    for treatment in ("keep", "mask", "redistribute"):
        (found,) = visattn.explain(model, photo, method="rollout", outliers=treatment)
        sharpness[treatment] = found.grid.max() / found.grid.mean()
        assert any("attention sinks" in note for note in found.warnings) == (treatment == "keep")
    assert sharpness["keep"] > 30
    assert sharpness["mask"] < 8
    assert sharpness["redistribute"] < 8
