"""``visattn evaluate``, as typed."""

from __future__ import annotations

import csv
import json
import shlex
from pathlib import Path

import pytest
import yaml
from cli_command import Command
from PIL import Image as PillowImage

from visattn.evaluation import folder, list_datasets, list_metrics
from visattn.evaluation.config import EvaluationConfig

ROOT = Path(__file__).parent.parent.parent
QUICK = (
    "planted?count=9", "--model", "reference:vit", "--method", "gae", "--method", "rollout",
    "--metric", "energy_pointing", "-k", "srg:steps=4",
)  # fmt: skip


def test_it_writes_a_scorecard_and_goes_on_with_it(
    visattn_command: Command, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    done = visattn_command("evaluate", *QUICK, "--out", str(out), "--limit", "4")
    assert done.code == 0, done.err
    assert done.out.splitlines() == ["4 samples", str(out / "scorecard.md")]
    names = {path.name for path in out.iterdir()}
    assert names == {
        "results.jsonl", "run.json", "scorecard.json", "scorecard.csv", "scorecard.md",
        "scorecard.tex", "scorecard.pdf", "scorecard.png",
    }  # fmt: skip
    rows = list(csv.DictReader((out / "scorecard.csv").read_text().splitlines()))
    assert {row["metric"] for row in rows} == {"energy_pointing", "srg:steps=4"}
    assert {row["method"] for row in rows if row["control"] == "True"} == {
        "attention", "center", "edges", "random",
    }  # fmt: skip
    run = json.loads((out / "run.json").read_text())
    assert run["config"]["methods"] == ["gae", "rollout"]
    assert run["model"]["weights_sha256"]
    assert run["samples"] == 4

    lines = (out / "results.jsonl").read_text().splitlines()
    assert len(lines) == 4 * 6 * 2
    assert visattn_command("evaluate", *QUICK, "--out", str(out), "--limit", "6").code == 0
    later = (out / "results.jsonl").read_text().splitlines()
    assert later[: len(lines)] == lines
    assert len(later) == 6 * 6 * 2


def test_what_does_not_apply_is_said_and_is_exit_code_one(
    visattn_command: Command, tmp_path: Path
) -> None:
    words = ("planted?count=2", "--model", "reference:cbam", "--method", "rollout")
    done = visattn_command(
        "evaluate", *words, "--metric", "energy_pointing", "--out", str(tmp_path / "o")
    )
    assert done.code == 1
    assert "rollout does not apply (energy_pointing):" in done.out
    assert "does not apply" in (tmp_path / "o" / "scorecard.md").read_text()


def test_a_photo_that_cannot_be_read_is_counted(
    visattn_command: Command, tmp_path: Path, photos: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    PillowImage.open(photos / "cat.jpg").resize((96, 96)).save(folder / "cat.png")
    (folder / "broken.png").write_bytes(b"no picture")
    words = (str(folder), "--model", "reference:vit", "--method", "gae", "--metric", "sparseness")
    done = visattn_command("evaluate", *words, "--out", str(tmp_path / "o"))
    assert "left out: 1 unreadable image" in done.out
    assert done.code == 1
    assert "1 unreadable image" in (tmp_path / "o" / "scorecard.md").read_text()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("planted -m reference:vit --method gae --metric srg", "out is missing"),
        ("planted -m reference:vit --method gae --out OUT", "metrics is missing"),
        ("planted -m reference:vit --method gae --metric sgr --out OUT", "Did you mean 'srg'"),
        ("planted -m reference:vit --method gea --metric srg --out OUT", "Did you mean 'gae'"),
        ("planted -m reference:vti --method gae --metric srg --out OUT", "reference:vit"),
        ("plantd -m reference:vit --method gae --metric srg --out OUT", "Did you mean 'planted'"),
        ("planted?cuont=3 -m reference:vit --method gae --metric srg --out OUT", "'count'"),
        ("planted -m reference:vit --method gae --metric srg:fill=x --out OUT", "fill='x'"),
        ("planted -m reference:vit --method gae --metric grid_pointing --out OUT", "needs tile"),
        ("planted -m reference:vit --method gae --metric srg --out OUT --limit 0", "limit"),
        ("planted -m reference:vit --method gae:x=1 --metric srg --out OUT", "no option 'x'"),
    ],
)
def test_wrong_words_are_exit_code_two_and_leave_nothing(
    visattn_command: Command, tmp_path: Path, words: str, told: str
) -> None:
    done = visattn_command("evaluate", *shlex.split(words.replace("OUT", str(tmp_path / "out"))))
    assert done.code == 2
    assert told in done.err
    assert not (tmp_path / "out").exists()


def test_a_place_that_cannot_be_written_is_exit_code_two(visattn_command: Command) -> None:
    done = visattn_command("evaluate", *QUICK, "--out", "/dev/null/x", "--limit", "1")
    assert done.code == 2
    assert "/dev/null/x" in done.err


def test_a_folder_that_holds_something_else_is_not_touched(
    visattn_command: Command, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    done = visattn_command("evaluate", *QUICK, "--out", str(tmp_path))
    assert done.code == 2
    assert "thesis.tex" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_it_lists_metrics_and_data_sets(visattn_command: Command) -> None:
    done = visattn_command("evaluate", "--list")
    assert done.code == 0
    for name in (*list_metrics(), *list_datasets()):
        assert f"  {name} " in done.out


def test_the_example_config_names_every_key_and_runs(
    visattn_command: Command, tmp_path: Path
) -> None:
    path = ROOT / "configs" / "evaluation.yaml"
    assert set(yaml.safe_load(path.read_text())) == set(EvaluationConfig.model_fields)
    words = ("--config", str(path), "--limit", "2", "--out", str(tmp_path / "o"))
    done = visattn_command("evaluate", *words, "--metric", "sparseness")
    assert done.code == 0, done.err
    rows = list(csv.DictReader((tmp_path / "o" / "scorecard.csv").read_text().splitlines()))
    assert {row["metric"] for row in rows} == {"sparseness"}
    assert "gae:start_layer=3" in {row["method"] for row in rows}
    broken = tmp_path / "c.yaml"
    broken.write_text("modell: x\n")
    done = visattn_command("evaluate", "--config", str(broken))
    assert done.code == 2
    assert "Did you mean 'model'" in done.err


def test_size_and_device_reach_the_model(visattn_command: Command, tmp_path: Path) -> None:
    words = (str(ROOT / "data" / "photos"), "--model", "test_efficientnet", "--weights", "random",
             "--method", "random", "--metric", "sparseness", "--limit", "1")  # fmt: skip
    out = ("--out", str(tmp_path / "o"))
    done = visattn_command("evaluate", *words, "--image-size", "64x96", *out)
    assert done.code == 0, done.err
    run = json.loads((tmp_path / "o" / "run.json").read_text())
    assert run["model"]["input_size"] == [64, 96]
    done = visattn_command("evaluate", *words, "--device", "nonsense", *out)
    assert done.code == 2
    assert "nonsense" in done.err


def test_a_seed_makes_random_weights_and_torch_is_as_before(
    visattn_command: Command, tmp_path: Path
) -> None:
    import torch

    digests, before = [], torch.random.get_rng_state()
    words = (str(ROOT / "data" / "photos"), "--model", "test_efficientnet", "--weights", "random",
             "--method", "random", "--metric", "sparseness", "--limit", "1")  # fmt: skip
    for number, seed in enumerate(("1", "1", "2")):
        out = tmp_path / str(number)
        assert visattn_command("evaluate", *words, "--seed", seed, "--out", str(out)).code == 0
        digests.append(json.loads((out / "run.json").read_text())["model"]["weights_sha256"])
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_interrupt_is_exit_code_130_and_can_be_continued(
    visattn_command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    out = ("--out", str(tmp_path / "o"), "--limit", "2")
    with monkeypatch.context() as patch:
        patch.setattr(folder, "evaluate", interrupt)
        done = visattn_command("evaluate", *QUICK, *out)
    assert done.code == 130
    assert "run again to continue" in done.err
    assert visattn_command("evaluate", *QUICK, *out).code == 0


def test_options_of_a_data_set_that_cannot_be_read_say_how(visattn_command: Command) -> None:
    words = ("coco:x.json?images=data/photos", "-m", "reference:vit", "--method", "gae")
    done = visattn_command("evaluate", *words, "--metric", "srg", "--out", "nowhere")
    assert done.code == 2
    assert "'coco:x.json?images=data/photos'" in done.err
    assert "data / photos is no number, word or list: quote text" in done.err
