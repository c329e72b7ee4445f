"""Names that people ask for and that are no methods here: each says why, or what to use."""

from __future__ import annotations

import re

import pytest

import visattn
from tests import zoo
from visattn.errors import UnsupportedMethodError
from visattn.methods import create_method, get_method, list_methods
from visattn.methods.absent import ALIASES, REASONS

OTHER_WORDS = {"mean", "vargrad", "square"}


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("gradcam++", "gradcam_plusplus"),
        ("Grad-CAM++", "gradcam_plusplus"),
        ("GradCAM", "gradcam"),
        ("grad_cam", "gradcam"),
        ("ig", "integrated_gradients"),
        ("Integrated Gradients", "integrated_gradients"),
        ("attention_rollout", "rollout"),
        ("kernel-shap", "kernel_shap"),
        ("vargrad", "smoothgrad"),
    ],
)
def test_other_names_lead_to_the_method(name: str, right: str) -> None:
    for ask in (get_method, create_method):
        with pytest.raises(
            UnsupportedMethodError, match=f"no method {re.escape(repr(name))}.*'{right}'"
        ):
            ask(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("deeplift", "LayerNorm or attention"),
        ("DeepLIFT SHAP", "silently falls back to the gradient"),
        ("guided_backprop", "exists for ReLU only"),
        ("deconvolution", "plain gradient under another name"),
        ("lrp", "a family of rules"),
        ("chefer", "two papers"),
        ("CheferCAM", "'gae'.*'transformer_attribution'"),
        ("shap", "several estimators"),
    ],
)
def test_what_does_not_exist_says_why(name: str, words: str) -> None:
    with pytest.raises(UnsupportedMethodError, match=words):
        visattn.explain(zoo.build("class"), zoo.images(1), method=name)


def test_absent_names_are_no_methods_and_lead_to_methods() -> None:
    assert not set(REASONS) & set(ALIASES)
    assert not {*REASONS, *ALIASES} & set(list_methods())
    named = {word for reason in REASONS.values() for word in re.findall(r"'(\w+)'", reason)}
    assert named - OTHER_WORDS <= set(list_methods())
    assert set(ALIASES.values()) <= set(list_methods())


def test_typos_are_still_suggested_and_registered_names_come_first() -> None:
    with pytest.raises(UnsupportedMethodError, match="Did you mean 'rollout'"):
        get_method("rolout")
    with pytest.raises(UnsupportedMethodError, match="Choose from"):
        get_method("My-Unheard-Of")
    from visattn.methods import METHODS

    kind = get_method("random")
    METHODS.register("lrp")(kind)
    try:
        assert get_method("lrp") is kind
    finally:
        METHODS.withdraw("lrp")
