"""Case: one map of one sample, with the score that it explains."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from visattn.evaluation.sample import Sample
from visattn.evaluation.trial import Trial
from visattn.options import require_choice
from visattn.saliency import SaliencyMap
from visattn.targets import Resolved

LOGIT, PROBABILITY = SCORES = ("logit", "probability")


@dataclass(frozen=True, eq=False)
class Case:
    """A map that a metric is to judge.

    Attributes:
        sample: what was explained.
        trial: by which method.
        found: its map.
        output: of the model for the sample alone, (1, ...).
        resolved: the explained scalar: of the sample's target also where the method is
            class-agnostic.
    """

    sample: Sample
    trial: Trial
    found: SaliencyMap
    output: torch.Tensor
    resolved: Resolved

    @property
    def tensor(self) -> torch.Tensor:
        """The input (channel, row, col) in float32, as it was prepared."""
        return self.sample.prepared.tensor

    def scores(self, outputs: torch.Tensor, kind: str = LOGIT) -> torch.Tensor:
        """Return the explained scalar of outputs (batch, ...), (batch,), float64 on the CPU.

        ``logit`` is what the map explains. ``probability`` is softmax (sigmoid of one output); of a
        target that is no class but similar to something, the cosine to the sample's own output,
        which is bounded as probabilities are.
        """
        require_choice("score", kind, SCORES)
        if kind == LOGIT:
            found = self.resolved.score(outputs)
        elif self.resolved.probability is not None:
            found = self.resolved.probability(outputs)
        else:
            own = self.output.to(outputs).flatten(1)
            found = functional.cosine_similarity(outputs.flatten(1), own, dim=1)
        return found.detach().double().cpu()
