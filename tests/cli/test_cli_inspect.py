"""``visattn inspect``."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_command import Command

import visattn


def test_a_transformer_is_described_and_its_capture_proven(visattn_command: Command) -> None:
    done = visattn_command(
        "inspect", "test_vit", "--weights", "random", "--image-size", "96x128", "--device", "cpu"
    )
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    facts = {line[:16].strip(): line[16:] for line in lines if line}
    assert facts["input_size"] == "96 x 128"
    assert facts["prefix tokens"] == "class"
    assert facts["grid"] == "6 x 8 of 16 by 16 pixels" or facts["grid"].startswith("6 x 8 of 16")
    assert facts["head reads"] == "class token"
    assert sum("49 queries x 49 keys" in line for line in lines) == 6
    assert any("verdict" in line and "holds" in line for line in lines)
    assert "FAILS" not in done.out
    methods = {line.split()[0]: line for line in lines[lines.index("methods") + 1 :]}
    assert sorted(methods) == visattn.list_methods()
    refused = [name for name, line in methods.items() if "applies" not in line]
    gates = {"channel_gate", "gate_weighted", "spatial_gate"}
    assert set(refused) - gates == {"guided_gradcam"}  # captum guides ReLU modules only


def test_a_convolutional_network_says_why_methods_do_not_apply(visattn_command: Command) -> None:
    done = visattn_command("inspect", "test_resnet", "--weights", "random", "--device", "cpu")
    assert done.code == 0, done.err
    assert "none observed" in done.out
    methods = dict(
        line.split(None, 1) for line in done.out.split("methods\n")[1].splitlines() if line
    )
    assert methods["rollout"].startswith("no: ResNet has no attention operations")
    assert methods["gradcam"] == "applies"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["test_vti"], "Did you mean 'test_vit'?"),
        (["test_vit", "--image-size", "big"], "'big' is neither 448 nor 384x512"),
        (["test_vit", "--image-size", "1x2x3"], "neither 448 nor 384x512"),
        (["test_vit", "--image-size", "0"], "neither a size"),
        (["test_vit", "--weights", "missing.pth"], "no checkpoint missing.pth"),
        (["test_vit", "--device", "gpu"], "Device 'gpu'"),
    ],
)
def test_mistakes_are_exit_code_2(
    visattn_command: Command, arguments: list[str], told: str
) -> None:
    done = visattn_command("inspect", *arguments, *([] if "--weights" in arguments else RANDOM))
    assert (done.code, done.out) == (2, "")
    assert told in done.err
    assert "Traceback" not in done.err


RANDOM = ["--weights", "random"]


def test_artefact_tokens_can_be_counted_on_a_photo(visattn_command: Command, photo: Path) -> None:
    words = ("inspect", "test_vit", "--weights", "random")
    assert "mean of an image, on noise" in visattn_command(*words).out
    done = visattn_command(*words, "--image", str(photo))
    assert done.code == 0, done.err
    assert "mean of an image, on photographs" in done.out
