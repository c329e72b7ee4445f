"""Guided Grad-CAM (Selvaraju et al., ICCV 2017)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from visattn.adapters import Adapter, Refusal, Site
from visattn.errors import UnsupportedMethodError
from visattn.geometry import Geometry
from visattn.images import Size
from visattn.methods.method import Maps, Passes
from visattn.methods.pixels import PixelMap, differentiable, reduced
from visattn.methods.rectifiers import rectified, unguided, without_rule
from visattn.methods.registry import METHODS
from visattn.models.state import undisturbed
from visattn.observation import AttentionRecord

INSTEAD = "use gradcam, smoothgrad or integrated_gradients"
SAME = 1e-4


@METHODS.register("guided_gradcam")
@dataclass(frozen=True)
class GuidedGradCam(PixelMap):
    """Guided backpropagation times Grad-CAM, at pixels.

    ``m = sum_channels r * up((sum_c mean_p(g_c) X_c)^+)`` with r the gradient by the pixels in
    which every ReLU passes positive gradients only, X the activation at ``layer`` (by default the
    family's site of class activation maps), g the gradient by it, and ``up`` bilinear. Signed.
    Pixels are summed over squares of ``cell`` by ``cell``, by default 1/28 of the shorter side; 1
    keeps the pixels. Class-specific; three forward passes and two backward passes beside the
    shared one.

    It is defined for networks whose only nonlinearities are ReLU, beside pooling and normalisation,
    which keep their gradients. captum hooks torch.nn.ReLU modules and leaves GELU, SiLU, ReLU6,
    gates, attention and functional relu as they are without a word; such networks are refused by
    name, and so are those where a ReLU's input is used elsewhere too, in which captum's gradient
    is not the guided one.

    Selvaraju et al., ICCV 2017; guided backpropagation: Springenberg et al., ICLR workshop 2015.
    Computed by captum, with the paper's bilinear upsampling instead of captum's nearest cell.
    """

    signed: ClassVar[bool] = True
    formula: ClassVar[str] = "sum_c guided dy/dx_c * up(Grad-CAM)"
    applies: ClassVar[str] = "CNNs with ReLU modules only"
    paper: ClassVar[str] = "Selvaraju et al., ICCV 2017"

    layer: str | None = None

    def refusal(self, adapter: Adapter, size: Size) -> str | None:
        """Return which nonlinearities have no rule, or why there is no layer, or None."""
        del size
        found = without_rule(adapter.module)
        if found:
            return f"{found}; {INSTEAD}"
        site = self._site(adapter)
        if isinstance(site, Refusal):
            return site.reason
        if site.module not in dict(adapter.module.named_modules()):
            return f"it has no module {site.module!r}"
        if site.axes != "channels_first":
            return f"the {site} is not a feature map (batch, channel, row, col)"
        return None

    def passes(self, adapter: Adapter, size: Size) -> Passes:
        """Return the shared pass, that of the check, and two of captum."""
        del adapter, size
        return Passes(4, 2)

    def __call__(self, record: AttentionRecord, geometries: Sequence[Geometry]) -> Maps:
        """Return signed attributions of input pixels, summed over channels."""
        from captum.attr import GuidedGradCam as Captum

        del geometries
        module, site = record.adapter.module, self._site(record.adapter)
        if isinstance(site, Refusal):
            raise UnsupportedMethodError(f"{site.reason}.")
        layer = dict(module.named_modules())[site.module]
        # Hooked meanwhile, the module must not run in another thread: its lock is held.
        with undisturbed(module), differentiable(record) as inputs, warnings.catch_warnings():
            _require_guided(record, inputs)
            warnings.filterwarnings("ignore", "Setting backward hooks on ReLU")
            warnings.filterwarnings("ignore", "Couldn't appropriately interpolate")
            found = Captum(_Scored(module, record), layer).attribute(
                inputs,
                additional_forward_args=(record.indices,),
                interpolate_mode="bilinear",
                attribute_to_layer_input=site.side == "input",
            )
        if found.shape != inputs.shape:
            raise UnsupportedMethodError(
                f"The {site} is not a feature map (batch, channel, row, col), so that its Grad-CAM "
                "cannot be laid on the input; name another layer."
            )
        return self.maps(record, reduced(found, "sum"), facts={"layer": str(site)})

    def _site(self, adapter: Adapter) -> Site | Refusal:
        if self.layer is not None:
            return Site(self.layer, "output", "channels_first")
        return adapter.cam_site()


class _Scored(nn.Module):
    """The explained scalar as a module around the model's, because captum hooks its parts."""

    def __init__(self, module: nn.Module, record: AttentionRecord) -> None:
        super().__init__()
        self.explained = module
        self._record = record

    def forward(self, inputs: torch.Tensor, index: torch.Tensor) -> Any:
        """Return scores (batch,); raises where hooks have changed what the model computes."""
        record = self._record
        outputs = record.again.outputs(inputs.to(record.inputs.dtype))
        before = record.outputs.detach().to(outputs)
        if not torch.allclose(outputs, before, rtol=SAME, atol=SAME * float(before.abs().max())):
            raise UnsupportedMethodError(
                "The outputs change under captum's hooks: the model relies on a ReLU that works in "
                f"place on a tensor used elsewhere. Set inplace=False, or {INSTEAD}."
            )
        return record.again.score_of(outputs, index).float()


def _require_guided(record: AttentionRecord, inputs: torch.Tensor) -> None:
    """Raise where a pass shows a nonlinearity that captum would not guide."""
    one = inputs[:1].detach().requires_grad_()
    with rectified(record.adapter.module) as hooked:
        outputs = record.again.outputs(one.to(record.inputs.dtype))
    reason = unguided(outputs, one, hooked)
    if reason:
        name = type(record.adapter.module).__name__
        raise UnsupportedMethodError(
            f"guided_gradcam does not apply to {name}: {reason}; {INSTEAD}."
        )
