"""``visattn render`` and ``visattn export``, as typed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path


def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "visattn", *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_a_gallery_is_drawn_again_without_model_and_torch(tmp_path: Path, photos: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(photos / "cameraman.jpg", tmp_path / "in")
    lite = ("--model", "packaged:efficientnet_lite0", "--method", "gradcam")
    made = run("gallery", "in", *lite, "--method", "layercam", "--out", "out", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    words = ("-S", "colormap=magma", "-S", "contours=0.5", "--method", "gradcam")
    done = run("render", "out", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["1 map drawn", str(tmp_path / "out" / "index.html")]
    lines = map(json.loads, (tmp_path / "out" / "manifest.jsonl").read_text().splitlines())
    colours = {line["method"]: line["statistics"]["colormap"] for line in lines}
    assert (colours["gradcam"], colours["layercam"] == "magma") == ("magma", False)

    words = ("--coco", "masks.json", "--sheet", "sheet.pdf", "--method", "gradcam")
    left = run("export", "out", *words, cwd=tmp_path)
    assert left.returncode == 0, left.stderr
    assert left.stdout == "sheet.pdf: 1 map\nmasks.json: 1 mask of 1 maps\n"
    (mask,) = json.loads((tmp_path / "masks.json").read_text())["annotations"]
    assert mask["segmentation"]["size"] == [512, 416]

    shutil.rmtree(tmp_path / "in")
    code = (
        "import sys; from visattn.gallery import render_gallery; "
        "from pathlib import Path; render_gallery(Path('out')); "
        "sys.exit('torch' in sys.modules)"
    )
    quiet = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    assert quiet.returncode == 0


def test_a_wrong_command_is_one_line(tmp_path: Path) -> None:
    done = run("render", ".", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("visattn: . is no gallery")
    assert done.stderr.count("\n") == 1
