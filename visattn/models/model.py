"""Model: a module with the facts that explanations need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from visattn.adapters import Adapter
from visattn.errors import ModelError
from visattn.geometry import Geometry
from visattn.images import Image, Size
from visattn.models.digest import weights_digest
from visattn.models.output import as_scores_tensor
from visattn.models.preprocessing import Prepared, Preprocessing
from visattn.models.state import undisturbed


@dataclass(frozen=True, eq=False)
class Model:
    """A module, what its tokens and outputs mean, and how photographs are put in.

    Attributes:
        module: the network; visattn never changes it.
        name: what it was loaded as.
        adapter: its architecture family.
        preprocessing: its own, or None where it is not known (then only tensors are accepted).
        input_size: height and width of its input.
        labels: class names in output order, or None.
        source: where the weights come from, in words.
    """

    module: nn.Module
    name: str
    adapter: Adapter
    preprocessing: Preprocessing | None
    input_size: Size | None
    labels: tuple[str, ...] | None = None
    source: str = ""

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        weight = next(self.module.parameters(), None)
        return torch.device("cpu") if weight is None else weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the parameters."""
        weight = next((w for w in self.module.parameters() if w.is_floating_point()), None)
        return torch.float32 if weight is None else weight.dtype

    @property
    def has_classifier(self) -> bool:
        """Whether the outputs are scores of classes."""
        return self.adapter.num_classes != 0

    @property
    def weights_sha256(self) -> str:
        """Hash over the names and bytes of all parameters and buffers."""
        return weights_digest(self.module)

    def label(self, index: int) -> str:
        """Return the name of a class, or ``class 7`` where names are not known."""
        known = self.labels is not None and 0 <= index < len(self.labels)
        return self.labels[index] if known and self.labels else f"class {index}"

    def prepare(self, image: Image) -> Prepared:
        """Return the model's input for a photograph; raises `ModelError` if that is not known."""
        if self.preprocessing is None:
            raise ModelError(
                f"The preprocessing of {self.name} is not known: pass preprocessed tensors "
                "(batch, channel, row, col), or load_model(module, transform=...)."
            )
        return self.preprocessing(image)

    def prepare_tensor(self, tensor: torch.Tensor) -> Prepared:
        """Wrap a preprocessed tensor (channel, row, col); its picture is the input itself."""
        image = (self.preprocessing or _IDENTITY).photograph(tensor)
        size = Size(*map(int, tensor.shape[-2:]))
        return Prepared(image, tensor.detach(), Geometry.plain(size))

    def stack(self, prepared: Sequence[Prepared]) -> torch.Tensor:
        """Return the batch (batch, channel, row, col) on the model's device in its dtype."""
        sizes = {tuple(item.tensor.shape) for item in prepared}
        if len(sizes) > 1:
            raise ModelError(
                f"Inputs of different shapes cannot share a batch: {sorted(sizes)}. This model "
                "takes photos in their own proportions: use batch_size=1."
            )
        return torch.stack([item.tensor for item in prepared]).to(self.device, self.dtype)

    def run(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the outputs (batch, ...) of a plain pass in eval mode, without gradients."""
        with undisturbed(self.module), torch.no_grad():
            return as_scores_tensor(self.module(batch))

    def facts(self) -> dict[str, Any]:
        """Return what is known about the model, for JSON."""
        return {
            "name": self.name,
            "class": type(self.module).__name__,
            "family": self.adapter.family,
            "source": self.source,
            "weights_sha256": self.weights_sha256,
            "parameters": sum(weight.numel() for weight in self.module.parameters()),
            "input_size": list(self.input_size) if self.input_size else None,
            "preprocessing": self.preprocessing.describe() if self.preprocessing else None,
            "classes": self.adapter.num_classes,
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
        }


_IDENTITY = Preprocessing([], (0.0,) * 3, (1.0,) * 3)
