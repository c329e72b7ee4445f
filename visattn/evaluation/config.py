"""EvaluationConfig: everything that one evaluation needs to know, from flags and a YAML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictInt

from visattn.settings import read_settings, validated

FLAGS = {
    "dataset": "DATASET",
    "model": "--model",
    "methods": "--method",
    "metrics": "--metric",
    "out": "--out",
}


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_listed), Field(min_length=1)]


class EvaluationConfig(BaseModel):
    """One evaluation; relative paths are relative to the current directory.

    Attributes:
        dataset: spec of a data set, as `visattn.evaluation.open_dataset` takes.
        model: spec of `visattn.load_model`.
        out: folder of the report and of the results that a second run goes on with.
        methods: specs of methods; ``all`` are all that apply; controls are always there.
        metrics: specs of metrics.
        weights: ``pretrained``, ``random`` or the path of a checkpoint.
        image_size: pixels, or ``[height, width]``.
        device: as for `visattn.load_model`.
        limit: only the first samples.
        batch_size: inputs in one forward pass of a metric.
        seed: of the bootstrap and of random weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str
    model: str
    out: Path
    methods: Texts
    metrics: Texts
    weights: str = "pretrained"
    image_size: int | tuple[int, int] | None = None
    device: str = "auto"
    limit: Annotated[StrictInt, Field(ge=1)] | None = None
    batch_size: Annotated[StrictInt, Field(ge=1)] = 32
    seed: StrictInt = 0


def resolve_config(path: Path | None, flags: Mapping[str, Any]) -> EvaluationConfig:
    """Return the config of a YAML file (or of none), with the flags that were given on top.

    Raises `ConfigError` for a file that is missing or no mapping, unknown keys, with the nearest
    right one, and values of the wrong kind.
    """
    given = {key: value for key, value in flags.items() if value not in (None, [])}
    settings = read_settings(path, "model: reference:vit")
    return validated(EvaluationConfig, {**settings, **given}, FLAGS)
