"""``visattn gallery`` and ``visattn demo``, as typed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import visattn

ROOT = Path(__file__).parents[2]
LITE = ("--model", "packaged:efficientnet_lite0", "--method", "gradcam")


def run(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "visattn", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def read(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def folder(tmp_path: Path, photos: Path) -> Path:
    """A tree of photos: one upright, one that needs its EXIF tag, and one that is broken."""
    (tmp_path / "in" / "deep").mkdir(parents=True)
    shutil.copy(photos / "coffee.jpg", tmp_path / "in" / "coffee.jpg")
    shutil.copy(photos / "cameraman.jpg", tmp_path / "in" / "deep" / "cameraman.jpg")
    (tmp_path / "in" / "broken.jpg").write_bytes((photos / "cat.jpg").read_bytes()[:5000])
    return tmp_path


def test_a_folder_becomes_a_gallery_and_a_broken_photo_is_listed(folder: Path) -> None:
    done = run("gallery", "in", *LITE, "--method", "rollout", "--out", "out", cwd=folder)
    assert done.returncode == 1, done.stderr
    assert "broken.jpg" in done.stderr
    lines = [json.loads(line) for line in read(folder / "out" / "manifest.jsonl")]
    status = {(line["image"], line["method"]): line["status"] for line in lines}
    assert status == {
        ("broken.jpg", "gradcam"): "failed",
        ("broken.jpg", "rollout"): "failed",
        ("coffee.jpg", "gradcam"): "ok",
        ("coffee.jpg", "rollout"): "unsupported",
        ("deep/cameraman.jpg", "gradcam"): "ok",
        ("deep/cameraman.jpg", "rollout"): "unsupported",
    }
    coffee = next(line for line in lines if line["image"] == "coffee.jpg" and line["map"])
    assert (coffee["target_index"], coffee["target_label"]) == (967, "espresso")
    found = visattn.SaliencyMap.load(folder / "out" / coffee["map"])
    assert list(found.grid.shape) == coffee["grid"] == [7, 7]
    assert found.on_image().shape == (coffee["height"], coffee["width"]) == (400, 600)
    page = (folder / "out" / "index.html").read_text()
    assert "espresso" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    again = run("gallery", "in", *LITE, "--method", "rollout", "--out", "out", cwd=folder)
    assert again.returncode == 1
    assert "from an earlier run" in again.stdout


def test_options_style_and_size_reach_the_maps(folder: Path) -> None:
    (folder / "in" / "broken.jpg").unlink()
    flags = ("-O", "cell=16", "-S", "colormap=inferno", "--image-size", "160x192", "--limit", "1")
    words = ("gallery", "in", *LITE[:2], "--method", "integrated_gradients", "--out", "out")
    done = run(*words, *flags, "-O", "steps=2", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["1 map", str(folder / "out" / "index.html")]
    (line,) = [json.loads(line) for line in read(folder / "out" / "manifest.jsonl")]
    assert line["grid"] == [10, 12]
    assert line["statistics"]["colormap"] == "inferno"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("in", "--model", "packaged:efficientnet_lit0", "--method", "gradcam"),
            "efficientnet_lite0",
        ),
        (("in", "--model", "packaged:efficientnet_lite0", "--method", "gradcm"), "'gradcam'"),
        (("missing", *LITE), "missing"),
        (("in", *LITE, "--model", "resnet5000"), "resnet5000"),
        (("in", *LITE, "--target", "1000"), "Class 1000 does not exist"),
        (("in", *LITE, "--target", "expresso"), "'espresso'"),
        (("in", "--model", "packaged:dinov2_small", "--method", "gae"), "target='embedding'"),
        (("in", *LITE, "-O", "residual=1"), "'residual'"),
        (("in", *LITE, "-S", "opacty=1"), "'opacity'"),
        (("in", *LITE, "--image-size", "big"), "384x512"),
        (("in", *LITE, "--batch-size", "0"), "batch_size"),
        (("in", *LITE, "--config", "typo.yaml"), "'batch_size'"),
        (("in", *LITE, "--config", "absent.yaml"), "absent.yaml"),
    ],
)
def test_a_wrong_command_writes_nothing(folder: Path, words: tuple[str, ...], message: str) -> None:
    (folder / "typo.yaml").write_text("batchsize: 4\n")
    done = run("gallery", *words, "--out", "out", cwd=folder)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "out").exists()


def test_demo_is_the_galleries_of_its_configs(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    done = run("demo", "--limit", "1", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(str(out / "index.html"))
    planted = tmp_path / "demo-planted"
    assert str(planted / "index.html") in done.stdout
    lines = [json.loads(line) for line in read(planted / "manifest.jsonl")]
    assert {line["model"] for line in lines} == {"reference:vit", "reference:cbam"}
    assert all(line["status"] == "ok" for line in lines)
    assert {line["target_label"] for line in lines} <= {"crescent", None}
    lines = [json.loads(line) for line in read(out / "manifest.jsonl")]
    assert {line["method"] for line in lines} == {
        "attention", "rollout", "gae", "gradcam", "layercam", "integrated_gradients",
    }  # fmt: skip
    assert all(line["status"] == "ok" for line in lines)
    record = json.loads((out / "run.json").read_text())
    assert len(record["models"]) == 2


def test_demo_outside_the_repository_says_where_to_go(tmp_path: Path) -> None:
    done = run("demo", cwd=tmp_path)
    assert done.returncode == 2
    assert "repository" in done.stderr
