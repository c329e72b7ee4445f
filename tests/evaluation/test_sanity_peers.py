"""Sanity metrics against captum and quantus where definitions coincide, and where they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from captum.metrics import sensitivity_max
from torch import nn

import visattn
from tests.evaluation.judging import judged, values
from visattn.evaluation.bench import Bench
from visattn.evaluation.case import Case
from visattn.evaluation.metrics import read_metric
from visattn.evaluation.metrics.emprt import histogram_entropy
from visattn.evaluation.metrics.max_sensitivity import MaxSensitivity
from visattn.evaluation.randomization import Randomization

METHOD = "saliency:cell=1"
CLASSES = [1, 2, 0]
QUIET = {"disable_warnings": True, "display_progressbar": False, "normalise": False}


@pytest.fixture(scope="module")
def model() -> visattn.Model:
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, 2), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 5 * 7, 3)
    ).eval()
    return visattn.load_model(module, labels=list("abc"))


@pytest.fixture(scope="module")
def cases(model: visattn.Model) -> list[Case]:
    draw = torch.Generator().manual_seed(1)
    return judged(model, METHOD, [torch.rand(3, 12, 16, generator=draw) for _ in range(3)], CLASSES)


def gradient(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> np.ndarray:
    """The same map by plain autograd, (batch, 1, row, col)."""
    leaf = torch.as_tensor(inputs, dtype=torch.float32).clone().requires_grad_()
    score = model(leaf)[torch.arange(len(leaf)), torch.as_tensor(targets)].sum()
    return torch.autograd.grad(score, leaf)[0].abs().amax(dim=1, keepdim=True).numpy()


def batches(cases: list[Case]) -> dict[str, Any]:
    return {
        "x_batch": np.stack([case.tensor.numpy() for case in cases]),
        "y_batch": np.array(CLASSES),
        "a_batch": np.stack([case.found.grid for case in cases])[:, None],
        "explain_func": gradient,
    }


def test_maps_are_those_of_plain_autograd(model, cases):
    found = gradient(model.module, batches(cases)["x_batch"], CLASSES)
    assert np.allclose(found[:, 0], [case.found.grid for case in cases], atol=1e-6)


def test_captum_finds_the_same_sensitivity_with_the_same_changes(model, cases):
    metric = MaxSensitivity(radius=0.3, samples=4)
    changes = torch.stack([change for case in cases for change in metric.changes(case)])

    def changed(inputs: torch.Tensor, radius: float) -> torch.Tensor:
        return inputs + changes

    def maps(inputs: Any, target: Any) -> tuple[torch.Tensor, ...]:
        plain = inputs[0] if isinstance(inputs, tuple) else inputs
        with torch.enable_grad():
            return (torch.from_numpy(gradient(model.module, plain, target)),)

    inputs = torch.stack([case.tensor for case in cases])
    theirs = sensitivity_max(
        maps, inputs, changed, n_perturb_samples=4, target=torch.tensor(CLASSES)
    )
    assert values(metric, Bench(model), cases) == pytest.approx(theirs.tolist(), rel=1e-4)


def test_quantus_finds_the_same_sensitivity_with_the_same_changes(model, cases):
    quantus = pytest.importorskip("quantus")
    metric = MaxSensitivity(radius=0.3, samples=4)
    steps = iter(zip(*(metric.changes(case) for case in cases), strict=True))

    def changed(arr: np.ndarray, **_: Any) -> np.ndarray:
        return arr + torch.stack(next(steps)).flatten(1).numpy()

    theirs = quantus.MaxSensitivity(
        nr_samples=4, perturb_func=changed, abs=False, return_nan_when_prediction_changes=False,
        norm_numerator=quantus.norm_func.fro_norm, norm_denominator=quantus.norm_func.fro_norm,
        similarity_func=quantus.similarity_func.difference, **QUIET,
    )(model=model.module, **batches(cases))  # fmt: skip
    assert values(metric, Bench(model), cases) == pytest.approx(list(theirs), rel=1e-4)


def test_quantus_finds_the_same_similarity_of_another_class(model, cases, monkeypatch):
    """Both draw the class uniformly from the others; theirs from one seed for the whole batch."""
    quantus = pytest.importorskip("quantus")
    metric = read_metric("random_logit")[1]
    theirs = quantus.RandomLogit(
        num_classes=3, seed=0, abs=False,
        similarity_func=quantus.similarity_func.correlation_spearman, **QUIET,
    )  # fmt: skip
    # The place of the drawn class among those that are not the case's own.
    drawn = [metric.other(case) for case in cases]
    places = [other - (other > own) for other, own in zip(drawn, CLASSES, strict=True)]
    monkeypatch.setattr(np.random, "randint", lambda *_: np.array(places))
    found = theirs(model=model.module, **batches(cases))
    assert values(metric, Bench(model), cases) == pytest.approx(list(found), abs=1e-5)


def test_quantus_finds_the_same_similarities_over_random_layers(model, cases, monkeypatch):
    """Layer by layer from the head, with the same weights.

    Quantus seeds every layer with the same number, so that layers of one shape get equal weights,
    and randomises only what has ``reset_parameters``: class tokens, position embeddings and gates
    keep what they have learnt. Adebayo et al. re-initialise all weights of a layer; so do we.
    """
    quantus = pytest.importorskip("quantus")
    drawn = Randomization.of(model, cases[0].tensor, 0)
    stages = drawn.stages("top_down", 2)
    assert [[layer.name for layer in stage] for stage in stages] == [["3"], ["3", "0"]]

    def models(self: Any, order: str, seed: int) -> Any:
        ours = drawn.models(model, order, 2)
        return zip(("3", "0"), (each.module for each in ours), strict=True)

    wrapper = quantus.helpers.model.pytorch_model.PyTorchModel
    monkeypatch.setattr(wrapper, "get_random_layer_generator", models)
    theirs = quantus.MPRT(
        similarity_func=quantus.similarity_func.correlation_spearman, layer_order="top_down",
        abs=False, return_average_correlation=False, **QUIET,
    )(model=model.module, **batches(cases))  # fmt: skip
    assert theirs["original"] == pytest.approx([1.0] * 3, abs=1e-6)
    expected = np.mean([theirs["3"], theirs["0"]], axis=0)
    metric = read_metric("mprt:stages=2")[1]
    assert values(metric, Bench(model), cases) == pytest.approx(list(expected), abs=1e-5)


def test_the_entropy_of_the_histogram_is_that_of_quantus(cases):
    quantus = pytest.importorskip("quantus")
    for case in cases:
        grid = case.found.grid.astype(np.float64)
        theirs = quantus.complexity_func.discrete_entropy(a=grid, x=grid, n_bins=100)
        assert histogram_entropy(case.found.grid, 100) == pytest.approx(theirs)
