"""Absent: methods that people ask for and that do not exist here, under that name or at all."""

from __future__ import annotations

import re
from collections.abc import Collection

PLAIN_GRADIENT = (
    "its rule exists for ReLU only. On GELU, SiLU and attention the usual implementations hook "
    "nothing and return the plain gradient under another name; on ReLU networks it hardly depends "
    "on the upper layers (Adebayo et al., NeurIPS 2018). Use 'saliency' or 'smoothgrad' for "
    "gradients, or 'guided_gradcam' on a network of ReLU modules"
)
DEEPLIFT = (
    "its rules cover ReLU, sigmoid, tanh and max pooling, but not GELU, SiLU, LayerNorm or "
    "attention, where the usual implementation silently falls back to the gradient. Use "
    "'integrated_gradients' or 'gradient_shap', which also compare with a baseline, or 'attnlrp'"
)
LRP = (
    "layer-wise relevance propagation is a family of rules, and the plain ones are noise on "
    "transformers. Use 'attnlrp', 'cp_lrp', 'reslrp' or 'libragrad', which say what they do at "
    "attention and normalisation, or 'transformer_attribution' (Chefer et al., CVPR 2021)"
)
CHEFER = (
    "the name stands for two papers. Use 'gae' (Chefer, Gur & Wolf, ICCV 2021) or "
    "'transformer_attribution' (Chefer, Gur & Wolf, CVPR 2021)"
)
SHAP = (
    "it stands for several estimators. Use 'kernel_shap' on superpixels or 'gradient_shap' at "
    "pixels"
)
FULLGRAD = "here it is a read-out of 'libragrad', along a modified backward pass"
VARGRAD = "it is 'smoothgrad' with variant='vargrad'"
SQUARED = "it is 'smoothgrad' with variant='square'"
ABLATION = "what a covered part costs is 'occlusion', at patches, or 'rise', with random masks"

REASONS = {
    **dict.fromkeys(
        ("guided_backprop", "guided_backpropagation", "guidedbackprop"), PLAIN_GRADIENT
    ),
    **dict.fromkeys(("deconvolution", "deconvnet", "deconv"), PLAIN_GRADIENT),
    **dict.fromkeys(("deeplift", "deep_lift", "deeplift_shap", "deepliftshap"), DEEPLIFT),
    **dict.fromkeys(("deep_lift_shap", "deep_shap", "deepshap", "deep_explainer"), DEEPLIFT),
    **dict.fromkeys(("lrp", "epsilon_lrp", "full_lrp", "partial_lrp", "layerwise_relevance"), LRP),
    **dict.fromkeys(("chefer", "chefercam", "chefer_cam", "transformer_explainability"), CHEFER),
    **dict.fromkeys(("shap", "shapley", "shapley_values", "shapley_value_sampling"), SHAP),
    **dict.fromkeys(("fullgrad", "full_grad", "fullgrad_plus"), FULLGRAD),
    "vargrad": VARGRAD,
    **dict.fromkeys(("smoothgrad_sq", "smoothgrad_squared"), SQUARED),
    **dict.fromkeys(("ablation", "feature_ablation", "sliding_window"), ABLATION),
}
ALIASES = {
    "ablation_cam": "ablationcam",
    "attention_flow": "flow",
    "attention_map": "attention",
    "attention_maps": "attention",
    "attention_rollout": "rollout",
    "attn_lrp": "attnlrp",
    "cplrp": "cp_lrp",
    "dino": "attention",
    "dino_attention": "attention",
    "eigen_cam": "eigencam",
    "expected_gradients": "gradient_shap",
    "finer_cam": "finercam",
    "generic_attention": "gae",
    "grad": "saliency",
    "grad_attention_rollout": "grad_rollout",
    "grad_cam": "gradcam",
    "grad_cam_plus_plus": "gradcam_plusplus",
    "grad_cam_plusplus": "gradcam_plusplus",
    "grad_campp": "gradcam_plusplus",
    "gradcampp": "gradcam_plusplus",
    "gradient": "saliency",
    "gradient_rollout": "grad_rollout",
    "gradient_x_input": "input_x_gradient",
    "gradients": "saliency",
    "gradientshap": "gradient_shap",
    "gradsam": "grad_sam",
    "guided_grad_cam": "guided_gradcam",
    "guidedgradcam": "guided_gradcam",
    "hires_cam": "hirescam",
    "ig": "integrated_gradients",
    "input_gradient": "input_x_gradient",
    "inputxgradient": "input_x_gradient",
    "integratedgradients": "integrated_gradients",
    "ixg": "input_x_gradient",
    "kernelshap": "kernel_shap",
    "layer_cam": "layercam",
    "le_grad": "legrad",
    "libra_grad": "libragrad",
    "raw_attention": "attention",
    "res_lrp": "reslrp",
    "score_cam": "scorecam",
    "smooth_grad": "smoothgrad",
    "token_tm": "tokentm",
    "vanilla_gradient": "saliency",
    "vitcx": "vit_cx",
    "x_grad_cam": "xgradcam",
    "xgrad_cam": "xgradcam",
}


def absence(name: str, known: Collection[str]) -> str | None:
    """Return why no method is called ``name`` and which of the ``known`` ones to use, or None.

    Upper case, spaces, hyphens and a trailing ``++`` do not matter.
    """
    spelled = re.sub(r"[\s\-_]+", "_", name.strip().casefold().replace("++", "_plusplus"))
    if spelled in REASONS:
        return f"There is no method {name!r}: {REASONS[spelled]}."
    right = ALIASES.get(spelled, spelled)
    return f"There is no method {name!r} by that name: use {right!r}." if right in known else None
