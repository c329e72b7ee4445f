"""Selective kernels (Li et al., CVPR 2019): a softmax over branches of different kernels."""

from __future__ import annotations

from visattn.gates.family import GateFamily
from visattn.gates.registry import GATES


@GATES.register("selective_kernel")
class SelectiveKernel(GateFamily):
    """``softmax_branch(W2 relu(W1 mean_hw sum_branch x))``, for each channel."""

    family = "selective_kernel"
    classes = (("timm.layers.selective_kernel", "SelectiveKernel"),)
    kinds = ("branch",)
    paper = "Li et al., CVPR 2019"
