"""Targets: which scalar is explained, for every way of asking and every way of asking wrongly."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torch import nn

from visattn.adapters import find_adapter
from visattn.errors import ModelError, TargetError
from visattn.models import Model, Preprocessing
from visattn.models.output import as_scores_tensor
from visattn.models.text import TextTower, VisionLanguageModel
from visattn.saliency import Target
from visattn.targets import Resolved, SimilarityTarget, TextTarget, predictions, resolve, scores

LABELS = ("cat", "dog", "crane", "Crane", "tea pot")
OUTPUTS = torch.tensor([[0.0, 3.0, 1.0, -2.0, 2.0], [5.0, 0.0, 1.0, 2.0, 4.0]])


class Toy(nn.Module):
    """Reads off the mean colour of an image."""

    def __init__(self, num_classes: int | None = 5, channels: int = 5) -> None:
        super().__init__()
        self.head = nn.Linear(3, channels)
        if num_classes is not None:
            self.num_classes = num_classes

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return self.head(batch.mean(dim=(2, 3)))


def toy(
    num_classes: int | None = 5, channels: int = 5, labels: tuple[str, ...] | None = LABELS
) -> Model:
    from torchvision import transforms

    torch.manual_seed(0)
    module = Toy(num_classes, channels).eval()
    prepare = Preprocessing.from_transform(
        transforms.Compose([transforms.Resize((8, 12)), transforms.ToTensor()])
    )
    return Model(module, "toy", find_adapter(module), prepare, None, labels)


def one(spec: Any, model: Model | None = None, outputs: torch.Tensor = OUTPUTS) -> list[Resolved]:
    return resolve(spec, model or toy(), outputs)


def values(resolved: list[Resolved], outputs: torch.Tensor = OUTPUTS) -> list[float]:
    return [float(v) for v in scores(resolved, outputs)]


# Classes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "indices"),
    [
        (None, [1, 0]), ("top1", [1, 0]), ("top2", [4, 4]), ("top5", [3, 1]), (3, [3, 3]),
        (np.int64(2), [2, 2]), (0, [0, 0]), ("dog", [1, 1]), ("DOG", [1, 1]),
        ("Tea Pot", [4, 4]), ("4", [4, 4]), ([4, "cat"], [4, 0]), ((None, "top2"), [1, 4]),
    ],
)  # fmt: skip
def test_the_class_is_the_one_that_was_asked_for(spec: Any, indices: list[int]) -> None:
    found = one(spec)
    assert [r.target.index for r in found] == indices
    assert [r.target.label for r in found] == [LABELS[i] for i in indices]
    assert values(found) == [float(OUTPUTS[b, i]) for b, i in enumerate(indices)]
    softmax = np.exp(OUTPUTS.double().numpy())
    softmax /= softmax.sum(axis=1, keepdims=True)
    expected = [softmax[b, i] for b, i in enumerate(indices)]
    assert [r.target.probability for r in found] == pytest.approx(expected)


def test_the_score_is_the_logit_of_that_image_alone() -> None:
    outputs = OUTPUTS.clone().requires_grad_()
    scores(resolve([4, 0], toy(), outputs), outputs).sum().backward()
    expected = torch.zeros(2, 5)
    expected[0, 4] = expected[1, 0] = 1
    assert torch.equal(outputs.grad, expected)


def test_equal_logits_are_ranked_by_index() -> None:
    outputs = torch.tensor([[1.0, 2.0, 2.0, 2.0, 0.0]])
    ranks = [one(f"top{k}", outputs=outputs)[0].target.index for k in (1, 2, 3)]
    assert ranks == [1, 2, 3]


@pytest.mark.parametrize("num_classes", [5, None])
def test_a_model_without_class_names_numbers_them(num_classes: int | None) -> None:
    (first, _) = one(3, toy(num_classes, labels=None))
    assert first.target.label == "class 3"


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (5, "Class 5 does not exist: toy has classes 0 to 4"),
        (-1, "Class -1 does not exist"),
        ("7", "Class 7 does not exist"),
        ("dgo", "toy has no class 'dgo'. Did you mean 'dog'?"),
        ("crane", "'crane' is the name of classes [2, 3]: give the index"),
        ("top6", "toy has no class 'top6'"),
        (1.5, "1.5 is not a target"),
        (True, "True is not a target"),
        (b"dog", "is not a target"),
        ([1, 2, 3], "3 targets were given for 2 images"),
        ([], "0 targets were given for 2 images"),
        ([[1], [2]], "[1] is not a target"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(spec: Any, told: str) -> None:
    with pytest.raises(TargetError) as caught:
        one(spec)
    assert told in str(caught.value)


def test_a_rank_beyond_the_last_class_is_refused() -> None:
    with pytest.raises(TargetError, match="top3 of 2 classes"):
        one("top3", toy(2, 2, None), torch.zeros(1, 2))


def test_a_label_needs_class_names() -> None:
    with pytest.raises(TargetError, match="toy has no class names, so 'dog'"):
        one("dog", toy(labels=None))


@pytest.mark.parametrize("spec", [None, 0, "dog", "top1"])
def test_a_model_without_classifier_is_pointed_to_similarities(spec: Any) -> None:
    with pytest.raises(TargetError, match=r"no classifier.*'embedding'.*SimilarityTarget"):
        one(spec, toy(0, labels=None))


@pytest.mark.parametrize("spec", [None, 0, "dog"])
def test_outputs_that_are_not_classes_need_a_callable(spec: Any) -> None:
    with pytest.raises(TargetError, match=r"shape \(1, 5, 4, 4\).*callable"):
        one(spec, outputs=torch.zeros(2, 5, 4, 4))


# One output -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "logit", "index", "score", "probability"),
    [
        (None, 2.0, 1, 2.0, 0.880797), (None, -2.0, 0, 2.0, 0.880797),
        (1, -2.0, 1, -2.0, 0.119203), (0, -2.0, 0, 2.0, 0.880797), (0, 2.0, 0, -2.0, 0.119203),
        ("top2", 2.0, 0, -2.0, 0.119203), ("top1", -2.0, 0, 2.0, 0.880797),
        ("spam", 2.0, 1, 2.0, 0.880797), ("ham", 2.0, 0, -2.0, 0.119203),
    ],
)  # fmt: skip
def test_a_single_logit_is_for_class_one_and_against_class_zero(
    spec: Any, logit: float, index: int, score: float, probability: float
) -> None:
    outputs = torch.tensor([[logit]])
    found = one(spec, toy(1, 1, ("ham", "spam")), outputs)
    assert found[0].target == Target(
        index, ("ham", "spam")[index], pytest.approx(probability, abs=1e-5)
    )
    assert values(found, outputs) == [score]


def test_a_single_logit_may_have_two_names_where_the_number_of_classes_is_not_declared() -> None:
    (found,) = one(None, toy(None, 1, ("ham", "spam")), torch.tensor([[2.0]]))
    assert found.target.label == "spam"


@pytest.mark.parametrize("outputs", [torch.zeros(2, 7), torch.zeros(2, 4)])
def test_outputs_of_another_length_than_the_classes_are_no_class_scores(
    outputs: torch.Tensor,
) -> None:
    with pytest.raises(TargetError, match=rf"declares 5 classes but returns {outputs.shape[1]}"):
        one(None, outputs=outputs)
    assert values(one(lambda o: o[:, 3], outputs=outputs), outputs) == [0.0, 0.0]


@pytest.mark.parametrize("spec", [2, -1])
def test_a_single_logit_has_two_classes(spec: int) -> None:
    with pytest.raises(TargetError, match="one output, 0 or 1"):
        one(spec, toy(1, 1, None), torch.zeros(1, 1))


@pytest.mark.parametrize("rank", ["top3", "top5"])
def test_a_single_logit_has_two_ranks(rank: str) -> None:
    with pytest.raises(TargetError, match="does not exist"):
        one(rank, toy(1, 1, None), torch.zeros(1, 1))


# Callables ------------------------------------------------------------------------------------


def test_a_callable_gets_the_outputs_of_one_image_with_its_batch_axis() -> None:
    seen = []

    def margin(outputs: torch.Tensor) -> torch.Tensor:
        seen.append(tuple(outputs.shape))
        return outputs[:, 1] - outputs[:, 0]

    found = one(margin)
    assert values(found) == [3.0, -5.0]
    assert seen == [(1, 5), (1, 5)]
    assert found[0].target == Target(None, "margin", None)


def test_a_callable_serves_any_outputs_and_any_model() -> None:
    maps = torch.arange(2 * 5 * 4 * 4.0).reshape(2, 5, 4, 4)
    found = one(lambda o: o[:, 2].amax(dim=(1, 2)), toy(0), maps)
    assert values(found, maps) == [47.0, 127.0]


def test_a_callable_object_is_named_by_its_class() -> None:
    class Margin:
        def __call__(self, outputs: torch.Tensor) -> torch.Tensor:
            return outputs[:, 0]

    assert one(Margin())[0].target.label == "Margin"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [(lambda o: o, r"\(1, 5\)"), (lambda o: 3.0, "float"), (lambda o: o[:, :2], r"\(1, 2\)")],
)
def test_a_callable_that_returns_no_score_is_refused(wrong: Any, told: str) -> None:
    with pytest.raises(TargetError, match=rf"returned {told} for one image"):
        values(one(wrong))


# Similarity -----------------------------------------------------------------------------------


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_similarity_to_an_embedding_is_the_cosine_or_the_projection(kind: Any) -> None:
    reference = [1.0, -2.0, 0.5, 3.0, 1.0]
    model = toy(0, labels=None)
    found = one(SimilarityTarget(kind(reference)), model)
    expected = [cosine(row, np.array(reference)) for row in OUTPUTS.numpy()]
    assert values(found) == pytest.approx(expected, abs=1e-6)
    found = one(SimilarityTarget(kind(reference), "dot"), model)
    projections = OUTPUTS.numpy() @ np.array(reference) / np.linalg.norm(reference)
    assert values(found) == pytest.approx(projections.tolist(), abs=1e-5)
    assert found[0].target == Target(None, "similarity to reference", None)


def test_the_scale_of_the_reference_does_not_matter() -> None:
    reference = torch.tensor([1.0, -2.0, 0.5, 3.0, 1.0])
    for metric in ("cosine", "dot"):
        one_way = values(one(SimilarityTarget(reference, metric), toy(0)))
        other_way = values(one(SimilarityTarget(reference * 100, metric), toy(0)))
        assert one_way == pytest.approx(other_way)


def pictures(folder: Path) -> tuple[Path, PillowImage.Image, np.ndarray]:
    pixels = np.full((16, 24, 3), (200, 30, 90), np.uint8)
    PillowImage.fromarray(pixels).save(folder / "query.png")
    return folder / "query.png", PillowImage.fromarray(pixels), pixels


def test_similarity_to_an_image_takes_the_models_own_embedding_of_it(tmp_path: Path) -> None:
    model = toy(0, labels=None)
    with torch.no_grad():
        colour = torch.tensor([200, 30, 90]) / 255
        embedding = model.module.head(colour)
    expected = [cosine(row, embedding.numpy()) for row in OUTPUTS.numpy()]
    for image in pictures(tmp_path):
        assert values(one(SimilarityTarget(image), model)) == pytest.approx(expected, abs=1e-5)


def test_a_reference_is_called_by_its_name(tmp_path: Path) -> None:
    path, _, pixels = pictures(tmp_path)
    assert SimilarityTarget(path).label == "similarity to query.png"
    assert SimilarityTarget(str(path)).label == "similarity to query.png"
    assert SimilarityTarget(pixels).label == "similarity to reference"
    assert SimilarityTarget(pixels, name="red").label == "similarity to red"


def test_the_gradient_of_the_cosine_vanishes_on_the_image_itself_and_embedding_does_not() -> None:
    model = toy(0, labels=None)
    for spec, vanishes in (
        (SimilarityTarget(OUTPUTS[0]), True), ("embedding", False)
    ):  # fmt: skip
        outputs = OUTPUTS[:1].clone().requires_grad_()
        scores(resolve(spec, model, outputs), outputs).sum().backward()
        size = float(outputs.grad.norm())
        assert size == pytest.approx(0 if vanishes else 1, abs=1e-6)


def test_embedding_is_the_projection_of_each_image_on_itself() -> None:
    found = one("embedding", toy(0, labels=None))
    assert values(found) == pytest.approx(OUTPUTS.norm(dim=1).tolist())
    assert found[0].target == Target(None, "own embedding", None)


def test_embedding_keeps_its_reference_when_the_image_changes() -> None:
    found = one("embedding", toy(0, labels=None))
    halved = values(found, OUTPUTS / 2)
    assert halved == pytest.approx((OUTPUTS.norm(dim=1) / 2).tolist())


def test_half_precision_outputs_are_compared_in_float32() -> None:
    half = OUTPUTS.half()
    found = one(SimilarityTarget(OUTPUTS[0]), toy(0), half)
    assert scores(found, half).dtype == torch.float32
    assert values(found, half)[0] == pytest.approx(1, abs=1e-6)


def test_similarities_and_classes_may_stand_in_one_list() -> None:
    found = one([SimilarityTarget(OUTPUTS[0], "dot"), "dog"])
    assert values(found) == pytest.approx([float(OUTPUTS[0].norm()), 0.0])


@pytest.mark.parametrize("reference", [torch.zeros(3), np.zeros(7)])
def test_an_embedding_of_another_length_is_refused(reference: Any) -> None:
    with pytest.raises(TargetError, match=rf"has {len(reference)} values, the outputs of toy 5"):
        one(SimilarityTarget(reference), toy(0))


def test_a_reference_without_direction_is_refused() -> None:
    with pytest.raises(TargetError, match="zero"):
        one(SimilarityTarget(torch.zeros(5)), toy(0))


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(TargetError, match="metric='l2': use 'cosine' or 'dot'"):
        SimilarityTarget(torch.zeros(5), "l2")


# Predictions ----------------------------------------------------------------------------------


def test_predictions_are_first_choices() -> None:
    found = predictions(toy(), OUTPUTS)
    assert [(t.index, t.label) for t in found if t] == [(1, "dog"), (0, "cat")]


def test_there_is_no_prediction_without_a_classifier_or_without_classes() -> None:
    assert predictions(toy(0), OUTPUTS) == [None, None]
    assert predictions(toy(), torch.zeros(2, 5, 4, 4)) == [None, None]


# Outputs of any shape -------------------------------------------------------------------------


class ModelOutput(dict):  # type: ignore[type-arg]
    """Like transformers': a dictionary with attributes."""

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(name)
        return self[name]


TENSOR, OTHER = torch.ones(2, 5), torch.zeros(2, 3)


@pytest.mark.parametrize(
    "output",
    [
        TENSOR,
        (TENSOR, OTHER),
        [TENSOR],
        (None, TENSOR),
        {"logits": TENSOR},
        {"features": OTHER, "logits": TENSOR},
        {"pooled": TENSOR, "tokens": OTHER},
        ModelOutput(hidden=OTHER, logits=TENSOR),
        ModelOutput(loss=None, pooled=TENSOR),
        SimpleNamespace(hidden=OTHER, logits=TENSOR),
    ],
)
def test_the_scores_are_found_in_what_a_model_returns(output: Any) -> None:
    assert as_scores_tensor(output) is TENSOR


@pytest.mark.parametrize("output", [None, 3.0, "text", (), {}, {"logits": None}, SimpleNamespace()])
def test_an_output_without_scores_is_refused(output: Any) -> None:
    with pytest.raises(ModelError, match=rf"returned a {type(output).__name__} without a tensor"):
        as_scores_tensor(output)


# Texts ----------------------------------------------------------------------------------------

WORDS = {"up": (0.0, 2.0, 0.0), "side": (3.0, 0.0, 0.0)}


def reader() -> VisionLanguageModel:
    """A model of 3 channels whose text tower knows two words."""
    plain = toy(0, 3, None)
    tower = nn.Dropout(0.5).train()

    def encode(prompts: Sequence[str]) -> torch.Tensor:
        return tower(torch.tensor([WORDS[prompt] for prompt in prompts]))

    return VisionLanguageModel(
        plain.module, "reader", plain.adapter, plain.preprocessing, None,
        text=TextTower(tower, encode),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("prompts", "metric", "expected"),
    [
        ("up", "cosine", 0.8), ("side", "cosine", 0.6), ("up", "dot", 4.0),
        (["up", "side"], "cosine", 1.4 / 2**0.5), (("up", "up"), "cosine", 0.8),
    ],
)  # fmt: skip
def test_a_text_is_compared_with_the_embedding(prompts: Any, metric: str, expected: float) -> None:
    """Prompts are normalised before they are averaged: their lengths 2 and 3 do not matter."""
    outputs = torch.tensor([[3.0, 4.0, 0.0]])
    found = one(TextTarget(prompts, metric), reader(), outputs)
    assert values(found, outputs) == pytest.approx([expected])


def test_a_text_can_be_written_as_a_string() -> None:
    outputs = torch.tensor([[3.0, 4.0, 0.0]])
    found = one("text: up", reader(), outputs)
    assert values(found, outputs) == pytest.approx([0.8])
    assert found[0].target.label == "similarity to 'up'"


def test_the_text_tower_is_left_as_it_was() -> None:
    model = reader()
    TextTarget("up").embedding(model)
    assert model.text.module.training


@pytest.mark.parametrize(
    ("target", "label"),
    [
        (TextTarget("up"), "similarity to 'up'"),
        (TextTarget(["up", "side", "up"]), "similarity to 'up' and 2 more"),
        (TextTarget(["up", "side"], name="corner"), "similarity to corner"),
    ],
)
def test_a_text_is_named(target: TextTarget, label: str) -> None:
    (found,) = one(target, reader(), torch.tensor([[3.0, 4.0, 0.0]]))
    assert found.target == Target(None, label)


@pytest.mark.parametrize("prompts", ["", " ", [], ["up", ""], [7], 7])
def test_what_is_no_text_is_refused(prompts: Any) -> None:
    with pytest.raises(TargetError, match="give a text"):
        TextTarget(prompts)


def test_an_unknown_metric_of_texts_is_refused() -> None:
    with pytest.raises(TargetError, match="'l2': use 'cosine' or 'dot'"):
        TextTarget("up", "l2")


def test_a_model_without_text_tower_is_named() -> None:
    with pytest.raises(TargetError, match=r"toy has no text tower.*'up'.*SimilarityTarget"):
        one(TextTarget("up"))
