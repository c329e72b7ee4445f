"""Vision-language models: the text tower beside the module that is explained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from visattn.models.digest import weights_digest
from visattn.models.model import Model
from visattn.models.state import undisturbed


@dataclass(frozen=True, eq=False)
class TextTower:
    """What turns prompts into embeddings in the space of a model's image embeddings.

    Attributes:
        module: the network that holds the tower's weights; visattn never changes it.
        encode: from prompts to embeddings (prompt, channel), tokenizer included; it raises
            `visattn.TargetError` for a prompt that is longer than the tower reads and
            `visattn.WeightsError` when the tokenizer cannot be had.
    """

    module: nn.Module
    encode: Callable[[Sequence[str]], torch.Tensor]

    def embed(self, prompts: Sequence[str]) -> torch.Tensor:
        """Return one float32 embedding per prompt (prompt, channel), not normalised."""
        with undisturbed(self.module), torch.inference_mode(mode=False), torch.no_grad():
            return self.encode(list(prompts)).float()


@dataclass(frozen=True, eq=False)
class VisionLanguageModel(Model):
    """A model whose outputs are image embeddings, with the tower that embeds text beside them.

    Attributes:
        text: the text tower that was trained with it.
    """

    text: TextTower = field(kw_only=True)

    def facts(self) -> dict[str, Any]:
        """Return what is known about the model, for JSON; the text tower has its own hash."""
        return {**super().facts(), "text_weights_sha256": weights_digest(self.text.module)}
