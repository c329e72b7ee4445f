"""Trial: a method with its options, as one row of a scorecard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from visattn.errors import ConfigError, UnsupportedMethodError
from visattn.evaluation.sample import Sample
from visattn.evaluation.spec import parsed, written
from visattn.explanation import automatic_method
from visattn.images import Size
from visattn.methods import Method, get_method, list_methods
from visattn.models import Model

AUTO, ALL = "auto", "all"
# Maps that know nothing of the class; the first three know nothing of the model either.
CONTROLS = ("random", "center", "edges", "attention")


@dataclass(frozen=True)
class Trial:
    """A method with its options.

    Attributes:
        label: how tables call it.
        method: name of the method; never ``auto``.
        options: its options.
    """

    label: str
    method: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, text: str, model: Model, target: Any = None, size: Size | None = None) -> Trial:
        """Return the trial of a spec; ``auto`` becomes what it stands for on the model.

        Raises `UnsupportedMethodError` for a method or option that does not exist.
        """
        name, options = parsed(text)
        if name != AUTO:
            get_method(name).create(name, options)
            return cls(written(name, options), name, options)
        if options:
            raise UnsupportedMethodError(f"{text!r}: auto chooses its own options.")
        name, options = automatic_method(model, target, size)
        return cls(AUTO, name, options)

    def build(self) -> Method:
        """Return the method."""
        return get_method(self.method).create(self.method, dict(self.options))

    @property
    def control(self) -> bool:
        """Whether it is a control as it stands, without options."""
        return self.method in CONTROLS and not self.options

    @property
    def class_specific(self) -> bool:
        """Whether its maps depend on the target."""
        return self.build().class_specific

    def refusal(self, model: Model, size: Size) -> str | None:
        """Return why it does not apply to a model with inputs of ``size``, or None."""
        return self.build().refusal(model.adapter, size)


def read_trials(specs: Sequence[str], model: Model, sample: Sample) -> list[Trial]:
    """Return the trials of specs and the controls that apply, each once."""
    if not specs:
        raise ConfigError("No method was given; see visattn.list_methods().")
    names = [name for spec in specs for name in (list_methods() if spec == ALL else [spec])]
    trials = {
        trial.label: trial
        for trial in (Trial.read(name, model, sample.target, sample.size) for name in names)
        if ALL not in specs or trial.label in specs or not trial.refusal(model, sample.size)
    }
    for name in CONTROLS:
        control = Trial.read(name, model)
        if control.refusal(model, sample.size) is None:
            trials.setdefault(name, control)
    return list(trials.values())
