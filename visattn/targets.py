"""Targets: which scalar of a model's output a class-specific map explains."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from visattn.errors import TargetError, suggestion
from visattn.images import load_image
from visattn.models import Model
from visattn.models.text import VisionLanguageModel
from visattn.saliency import Target

ScoreOfOutputs = Callable[[torch.Tensor], torch.Tensor]
TEXT = "text:"
TOP = re.compile(r"top([1-5])")


@dataclass(frozen=True, eq=False)
class Resolved:
    """The scalar explained for one image.

    Attributes:
        score: function of outputs (1, ...).
        target: its description.
        probability: function of outputs (1, ...) to the probability of the explained class (1,),
            or None for a score that is none of a class.
    """

    score: ScoreOfOutputs
    target: Target
    probability: ScoreOfOutputs | None = None


@dataclass(frozen=True, eq=False)
class SimilarityTarget:
    """The similarity of an image's embedding to a reference, for models without a classifier.

    ``cosine``: ``<f(x), e> / (|f(x)| |e|)``, in -1..1. ``dot``: ``<f(x), e> / |e|``, the projection
    on the reference's direction. The gradient of the cosine vanishes where both embeddings agree,
    so to explain an image by itself use the target ``"embedding"``, which is its own projection.

    Attributes:
        reference: an image (path, Pillow image, uint8 array) or an embedding (1-D tensor or array).
        metric: ``cosine`` or ``dot``.
        name: how the reference is called in captions.
    """

    reference: Any
    metric: str = "cosine"
    name: str | None = None

    def __post_init__(self) -> None:
        _require_metric(self.metric)

    @property
    def label(self) -> str:
        """The score in words."""
        source = self.reference
        is_path = isinstance(source, (str, os.PathLike))
        name = self.name or (os.path.basename(source) if is_path else "reference")  # noqa: PTH119
        return f"similarity to {name}"

    def embedding(self, model: Model) -> torch.Tensor:
        """Return the reference's embedding (channel,), run through the model if it is an image."""
        source = self.reference
        if isinstance(source, (torch.Tensor, np.ndarray)) and source.ndim == 1:
            return torch.as_tensor(source).to(model.device, torch.float32)
        prepared = model.prepare(load_image(source))
        return model.run(model.stack([prepared])).flatten(1)[0].float()

    def resolve(self, model: Model, output: torch.Tensor) -> Resolved:
        """Return the score for one image with outputs (1, ...)."""
        return _similarity(self.embedding(model), self.metric, self.label, model, output)


@dataclass(frozen=True, eq=False)
class TextTarget:
    """The similarity of an image's embedding to a text, for models with a text tower.

    The text is embedded by the model's own tokenizer and text tower. Several prompts are averaged
    (prompt ensembling, Radford et al., ICML 2021): ``e = mean_p t_p / |t_p|``. ``cosine``:
    ``<f(x), e> / (|f(x)| |e|)``, in -1..1. ``dot``: ``<f(x), e> / |e|``.

    Attributes:
        prompts: ``"a photo of a cat"``, or several phrasings of one thing.
        metric: ``cosine`` or ``dot``.
        name: how the text is called in captions.
    """

    prompts: str | Sequence[str]
    metric: str = "cosine"
    name: str | None = None

    def __post_init__(self) -> None:
        _require_metric(self.metric)
        texts = self.texts
        if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise TargetError(f"prompts={self.prompts!r}: give a text, or several in a list.")

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompts, also when there is only one."""
        if isinstance(self.prompts, (list, tuple)):
            return tuple(self.prompts)
        return (self.prompts,)  # type: ignore[return-value]

    @property
    def label(self) -> str:
        """The score in words."""
        first, *others = self.texts
        more = f" and {len(others)} more" if others else ""
        return f"similarity to {self.name or f'{first!r}{more}'}"

    def embedding(self, model: Model) -> torch.Tensor:
        """Return the text's embedding (channel,); raises `TargetError` without a text tower."""
        if not isinstance(model, VisionLanguageModel):
            raise TargetError(
                f"{model.name} has no text tower and tokenizer that could be used, so it cannot "
                f"tell what {self.texts[0][:60]!r} means: load a vision-language model by name "
                "(open_clip:..., hf:...), or use visattn.SimilarityTarget(embedding)."
            )
        embeddings = model.text.embed(self.texts)
        return functional.normalize(embeddings, dim=1).mean(dim=0).to(model.device)

    def resolve(self, model: Model, output: torch.Tensor) -> Resolved:
        """Return the score for one image with outputs (1, ...)."""
        return _similarity(self.embedding(model), self.metric, self.label, model, output)


@dataclass(frozen=True)
class ContrastTarget:
    """A class against the classes that the model finds most similar to it.

    ``y_c - gamma * mean_d y_d`` with d the ``count`` classes whose logits are nearest to the
    explained class's on this image (Zhang et al., Finer-CAM, CVPR 2025). ``gamma`` = 0 is the
    class alone.

    Attributes:
        base: the class, as for `visattn.explain`: None, an index, a label or ``top1`` to ``top5``.
        gamma: weight of the similar classes.
        count: how many of them; fewer where the model has no more.
    """

    base: Any = None
    gamma: float = 0.6
    count: int = 3

    def resolve(self, model: Model, output: torch.Tensor) -> Resolved:
        """Return the score for one image with outputs (1, class)."""
        known = _resolve(self.base, model, output)
        if known.target.index is None or output.shape[1] < 2:
            raise TargetError(
                f"{known.target.label} is not one of several classes, so no similar class can be "
                "set against it: give an index, a label or 'top1' to 'top5'."
            )
        index = known.target.index
        similar = self.similar(output, index)

        def score(outputs: torch.Tensor) -> torch.Tensor:
            return outputs[:, index] - self.gamma * outputs[:, similar].mean(dim=1)

        return Resolved(score, known.target, known.probability)

    def similar(self, output: torch.Tensor, index: int) -> list[int]:
        """Return the classes nearest to class ``index`` in outputs (1, class), nearest first."""
        distance = (output[0].float() - output[0, index].float()).abs()
        distance[index] = float("inf")
        count = min(self.count, output.shape[1] - 1)
        return distance.argsort(stable=True)[:count].tolist()


def resolve(spec: Any, model: Model, outputs: torch.Tensor) -> list[Resolved]:
    """Return the scalar to explain for each image, given the outputs (batch, ...) of the pass.

    ``spec`` is what `visattn.explain` takes as ``target``. Raises `TargetError` when it does not
    fit the model, or when a list of targets has another length than the batch.
    """
    batch = outputs.shape[0]
    specs = list(spec) if isinstance(spec, (list, tuple)) else [spec] * batch
    if len(specs) != batch:
        raise TargetError(f"{len(specs)} targets were given for {batch} images.")
    detached = outputs.detach()
    return [_resolve(s, model, detached[i : i + 1]) for i, s in enumerate(specs)]


def predictions(model: Model, outputs: torch.Tensor) -> list[Target | None]:
    """Return the model's first choice for each image, None for a model without classifier."""
    if not model.has_classifier or outputs.ndim != 2:
        return [None] * outputs.shape[0]
    detached = outputs.detach()
    return [_top(1, model, detached[i : i + 1]).target for i in range(outputs.shape[0])]


def scores(resolved: Sequence[Resolved], outputs: torch.Tensor) -> torch.Tensor:
    """Return the explained scalar of each image (batch,), in float32 or wider."""
    parts = []
    for index, item in enumerate(resolved):
        value = item.score(outputs[index : index + 1])
        if not isinstance(value, torch.Tensor) or value.numel() != 1:
            shape = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
            raise TargetError(
                f"The target {item.target.label!r} returned {shape} for one image; "
                "a callable maps outputs (batch, ...) to scores (batch,)."
            )
        parts.append(value.reshape(()))
    return torch.stack(parts)


def probabilities(resolved: Sequence[Resolved], outputs: torch.Tensor) -> torch.Tensor:
    """Return the probability of each image's class (batch,), the score where there is no class."""
    chosen = [
        Resolved(item.score if item.probability is None else item.probability, item.target)
        for item in resolved
    ]
    return scores(chosen, outputs)


def _require_metric(metric: str) -> None:
    if metric not in ("cosine", "dot"):
        raise TargetError(f"metric={metric!r}: use 'cosine' or 'dot'.")


def _similarity(
    reference: torch.Tensor, metric: str, label: str, model: Model, output: torch.Tensor
) -> Resolved:
    """Return the similarity of outputs to a reference embedding (channel,) as a score."""
    if output.flatten(1).shape[1] != reference.numel():
        raise TargetError(
            f"The reference has {reference.numel()} values, the outputs of {model.name} "
            f"{output.flatten(1).shape[1]}."
        )
    if not reference.any():
        raise TargetError("The reference is zero everywhere, so it has no direction.")
    unit = functional.normalize(reference, dim=0)

    def score(outputs: torch.Tensor) -> torch.Tensor:
        flat = outputs.flatten(1).to(unit.dtype)
        return (functional.normalize(flat, dim=1) if metric == "cosine" else flat) @ unit

    return Resolved(score, Target(None, label))


def _resolve(spec: Any, model: Model, output: torch.Tensor) -> Resolved:
    if isinstance(spec, (SimilarityTarget, TextTarget, ContrastTarget)):
        return spec.resolve(model, output)
    if isinstance(spec, str) and spec == "embedding":
        own = SimilarityTarget(output.flatten().float(), "dot").resolve(model, output)
        return Resolved(own.score, Target(None, "own embedding"))
    if isinstance(spec, str) and spec.startswith(TEXT):
        return TextTarget(spec.removeprefix(TEXT).strip()).resolve(model, output)
    if callable(spec):
        return Resolved(spec, Target(None, getattr(spec, "__name__", type(spec).__name__)))
    _require_classes(spec, model, output)
    if spec is None:
        return _top(1, model, output)
    if isinstance(spec, (int, np.integer)) and not isinstance(spec, bool):
        return _class(int(spec), model, output)
    if isinstance(spec, str):
        top = TOP.fullmatch(spec)
        return _top(int(top[1]), model, output) if top else _label(spec, model, output)
    raise TargetError(
        f"{spec!r} is not a target: use None, an index, a label, 'top1' to 'top5', 'embedding', "
        "'text:a photo of a cat', a callable, a SimilarityTarget or a TextTarget."
    )


def _textual(model: Model) -> str:
    return "target='text:a photo of a cat', " if isinstance(model, VisionLanguageModel) else ""


def _require_classes(spec: Any, model: Model, output: torch.Tensor) -> None:
    if not model.has_classifier:
        raise TargetError(
            f"{model.name} has no classifier, so target={spec!r} means nothing to it: use "
            f"{_textual(model)}target='embedding' (the image's own embedding) or "
            "visattn.SimilarityTarget(image)."
        )
    declared = model.adapter.num_classes or (len(model.labels) if model.labels else None)
    binary = declared == 2 and output.shape[-1] == 1
    if output.ndim == 2 and declared not in (None, output.shape[1]) and not binary:
        raise TargetError(
            f"{model.name} declares {declared} classes but returns {output.shape[1]} values per "
            "image, so these are not class scores: give a callable or visattn.SimilarityTarget."
        )
    if output.ndim != 2:
        raise TargetError(
            f"The outputs of {model.name} have shape {tuple(output.shape)}, not (batch, class): "
            "give a callable that returns one score per image."
        )


def _class(index: int, model: Model, output: torch.Tensor) -> Resolved:
    count = output.shape[1]
    if count == 1:
        return _binary(index, model, output)
    if not 0 <= index < count:
        raise TargetError(
            f"Class {index} does not exist: {model.name} has classes 0 to {count - 1}."
        )

    def probability(outputs: torch.Tensor) -> torch.Tensor:
        return outputs.float().softmax(dim=1)[:, index]

    target = Target(index, model.label(index), float(probability(output)))
    return Resolved(lambda o: o[:, index], target, probability)


def _binary(index: int, model: Model, output: torch.Tensor) -> Resolved:
    """Return the positive class's logit, or its negative for class 0, of a one-output model."""
    if index not in (0, 1):
        raise TargetError(f"Class {index} does not exist: {model.name} has one output, 0 or 1.")
    sign = 1.0 if index else -1.0

    def probability(outputs: torch.Tensor) -> torch.Tensor:
        return (sign * outputs.float()[:, 0]).sigmoid()

    target = Target(index, model.label(index), float(probability(output)))
    return Resolved(lambda o: sign * o[:, 0], target, probability)


def _top(rank: int, model: Model, output: torch.Tensor) -> Resolved:
    count = max(output.shape[1], 2)
    if rank > count:
        raise TargetError(f"top{rank} of {count} classes does not exist.")
    if output.shape[1] == 1:
        likely = int(output[0, 0] > 0)
        return _binary(likely if rank == 1 else 1 - likely, model, output)
    return _class(int(output[0].argsort(descending=True, stable=True)[rank - 1]), model, output)


def _label(label: str, model: Model, output: torch.Tensor) -> Resolved:
    if label.isdigit():
        return _class(int(label), model, output)
    if model.labels is None:
        raise TargetError(f"{model.name} has no class names, so {label!r} cannot be looked up.")
    found = [i for i, name in enumerate(model.labels) if name.lower() == label.lower()]
    if not found:
        raise TargetError(f"{model.name} has no class {label!r}.{suggestion(label, model.labels)}")
    if len(found) > 1:
        raise TargetError(f"{label!r} is the name of classes {found}: give the index.")
    return _class(found[0], model, output)
