"""``visattn figure`` as a user types it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from cli_command import Command, Done
from PIL import Image as PillowImage

VIT = ("--model", "test_vit", "--weights", "random", "--device", "cpu")


@pytest.fixture
def dog(photo: Path) -> Path:
    """A second photograph, portrait, 250 x 160."""
    path = photo.with_name("dog.png")
    pixels = np.random.default_rng(1).integers(0, 256, (250, 160, 3), np.uint8)
    PillowImage.fromarray(pixels).save(path)
    return path


@pytest.fixture
def figure(visattn_command: Command, photo: Path, tmp_path: Path) -> Any:
    def run(*arguments: object, out: str = "fig.pdf", model: Any = VIT) -> Done:
        return visattn_command(
            "figure", photo, *model, "--out", tmp_path / out, "--dpi", "60", *arguments
        )

    return run


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"photos"}


def words(svg: Path) -> str:
    """Return what matplotlib notes beside the paths of each text of an SVG."""
    return svg.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("out", "start"),
    [("fig.pdf", b"%PDF"), ("fig.svg", b"<?xml"), ("fig.png", b"\x89PNG"), ("FIG.PDF", b"%PDF")],
)
def test_images_by_methods(figure: Any, dog: Path, tmp_path: Path, out: str, start: bytes) -> None:
    done = figure(dog, "--method", "rollout", "--method", "gae", out=out)
    assert (done.code, done.out.strip()) == (0, str(tmp_path / out)), done.err
    assert (tmp_path / out).read_bytes().startswith(start)
    stem = Path(out).stem
    assert files(tmp_path) == {out, f"{stem}.caption.txt", f"{stem}.figure.tex"}
    caption = (tmp_path / f"{stem}.caption.txt").read_text(encoding="utf-8")
    assert "rollout and gae for test_vit, on a cat and dog" in caption
    assert f"{{{out}}}" in (tmp_path / f"{stem}.figure.tex").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("rows", "arguments", "labels"),
    [
        ("layers", [], ["layer 0", "layer 5"]),
        ("layers", ["--layer", "0", "--layer", "-1"], ["layer 0", "layer -1"]),
        ("layers", ["--layer", "0:6:5"], ["layer 0", "layer 5"]),
        ("heads", [], ["head 0", "head 1"]),
        (
            "queries",
            ["--query", "1,2", "--query", "pixel:120,80"],
            ["query (1, 2)", "query at pixel (120, 80)"],
        ),
        ("methods", ["--method", "rollout"], ["attention", "rollout"]),
    ],
)
def test_rows_of_one_image(
    figure: Any, tmp_path: Path, rows: str, arguments: list[str], labels: list[str]
) -> None:
    done = figure("--method", "attention", "--rows", rows, *arguments, out="fig.svg")
    assert done.code == 0, done.err
    drawn = words(tmp_path / "fig.svg")
    for label in labels:
        assert f"<!-- {label}" in drawn


PVT = ("--model", "pvt_v2_b0", "--weights", "random", "--image-size", "64", "--device", "cpu")


@pytest.mark.parametrize(("rows", "order"), [("layers", "0 -1"), ("layers", "-1 0")])
def test_heads_are_counted_layer_by_layer(
    figure: Any, tmp_path: Path, rows: str, order: str
) -> None:
    layers = [f"--layer={each}" for each in order.split()]
    wanted = ("--method", "attention", "--rows", rows, *layers, "--head", "all", "--no-photos")
    done = figure(*wanted, "--maps", tmp_path / "maps", out="fig.svg", model=PVT)
    assert done.code == 0, done.err
    names = [path.name for path in (tmp_path / "maps").iterdir()]
    assert sum("layer-0-" in name for name in names) == 1
    assert sum("layer-1-" in name for name in names) == 8
    assert "<!-- head 7 -->" in words(tmp_path / "fig.svg")
    assert "2 layers, 8 heads" in (tmp_path / "fig.caption.txt").read_text(encoding="utf-8")


def test_heads_of_a_layer_that_has_fewer_are_refused(figure: Any, tmp_path: Path) -> None:
    done = figure("--method", "attention", "--layer", "0", "--head", "4:8", model=PVT)
    assert done.code == 2
    assert "--head 4:8: chooses nothing of layer 0 of pvt_v2_b0, which has 1" in done.err


def test_three_classes_of_one_photo_stand_in_a_line(figure: Any, tmp_path: Path) -> None:
    own = [f"--row-label={each}" for each in ("one", "two", "three")]
    assert figure("--method", "gae", "--rows", "targets", *own, out="line.png").code == 0
    with PillowImage.open(tmp_path / "line.png") as drawn:
        assert drawn.height < drawn.width / 2
    wrap = ("--wrap", "2")
    assert figure("--method", "gae", "--rows", "targets", *own, *wrap, out="two.svg").code == 0
    for each in ("one", "two", "three"):
        assert f"<!-- {each} -->" in words(tmp_path / "two.svg")
    done = figure("--method", "gae", "--rows", "targets", "--column-label", "A", out="no.pdf")
    assert done.code == 2
    assert "--column-label A: these maps are a single line" in done.err


def test_rows_of_targets_are_the_first_three_classes(figure: Any, tmp_path: Path) -> None:
    assert figure("--method", "gae", "--rows", "targets", out="fig.svg").code == 0
    drawn = words(tmp_path / "fig.svg")
    assert (
        figure("--method", "gae", "--target", "285", "--rows", "targets", out="cat.svg").code == 0
    )
    assert "Egyptian cat" in (tmp_path / "cat.caption.txt").read_text(encoding="utf-8")
    assert drawn != words(tmp_path / "cat.svg")


def test_a_target_goes_to_the_methods_that_know_classes(figure: Any, tmp_path: Path) -> None:
    done = figure("--method", "rollout", "--method", "gae", "--target", "Egyptian cat")
    assert done.code == 0, done.err
    caption = (tmp_path / "fig.caption.txt").read_text(encoding="utf-8")
    assert "Explained: Egyptian cat" in caption
    assert "rollout knows no class" in caption


def test_models_and_checkpoints_side_by_side(figure: Any, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    for name in ("a", "b"):
        state = timm.create_model("test_vit").state_dict()
        save_file(
            {key: value.contiguous() for key, value in state.items()},
            tmp_path / f"{name}.safetensors",
        )
    torch.manual_seed(0)
    pair = [f"--weights={tmp_path / name}.safetensors" for name in ("a", "b")]
    done = figure("--method", "gae", "--target", "3", "--difference", *pair, out="fig.svg",
                  model=("--model", "test_vit", "--device", "cpu"))  # fmt: skip
    assert done.code == 0, done.err
    drawn = words(tmp_path / "fig.svg")
    assert "<!-- a.safetensors (" in drawn
    assert "<!-- b.safetensors (" in drawn
    two = (*VIT, "--model", "test_resnet")
    assert figure("--method", "saliency", "--target", "3", model=two, out="two.svg").code == 0
    assert "test_resnet" in words(tmp_path / "two.svg")


def test_differences_and_agreement(figure: Any, dog: Path, tmp_path: Path) -> None:
    both = (dog, "--method", "rollout", "--method", "gae")
    assert figure(*both, "--difference", out="difference.svg").code == 0
    assert "<!-- rollout \N{MINUS SIGN} gae -->" in words(tmp_path / "difference.svg")
    assert figure(*both, "--agreement", "spearman", out="matrix.svg").code == 0
    assert "Spearman" in words(tmp_path / "matrix.svg")
    caption = (tmp_path / "matrix.caption.txt").read_text(encoding="utf-8")
    assert caption.startswith("Agreement of rollout, gae")


def test_styles_width_and_letters(figure: Any, tmp_path: Path) -> None:
    done = figure("--method", "rollout", "--width", "3", "--dpi", "100", "--letters", "--contours",
                  "--base", "faded", "--no-photos", "--no-stub", "--scale", "row",
                  "-S", "colormap=inferno", "-O", "residual=0.3", "--maps", tmp_path / "maps",
                  out="fig.png")  # fmt: skip
    assert done.code == 0, done.err
    with PillowImage.open(tmp_path / "fig.png") as drawn:
        assert drawn.width == 300
    assert files(tmp_path) == {"fig.png", "maps"}
    assert files(tmp_path / "maps") == {"1-a-cat-test-vit-rollout-residual-0.3.npz"}


def test_labels_can_be_given(figure: Any, tmp_path: Path) -> None:
    own = ("--row-label", "A cat", "--column-label", "Ours (gae)")
    assert figure("--method", "gae", *own, out="fig.svg").code == 0
    drawn = words(tmp_path / "fig.svg")
    assert "<!-- A cat -->" in drawn
    assert "<!-- Ours (gae) -->" in drawn
    done = figure("--method", "gae", "--method", "rollout", *own, out="two.svg")
    assert done.code == 2
    assert "1 labels were given for 2 columns" in done.err


def test_no_option_is_left_without_help() -> None:
    import typer

    from visattn.cli.app import build

    group: Any = typer.main.get_command(build())
    for parameter in group.commands["figure"].params:
        if parameter.name != "help":
            assert getattr(parameter, "help", None), parameter.name


def test_a_figure_higher_than_the_page_is_warned_of(figure: Any, tmp_path: Path) -> None:
    photos = []
    for index in range(5):
        path = tmp_path / "photos" / f"{index}.png"
        PillowImage.new("RGB", (40, 80), (index, 0, 0)).save(path)
        photos.append(path)
    done = figure(*photos, "--method", "rollout")
    assert done.code == 0
    assert "inches high" in done.err
    assert "a page holds 8.9" in done.err


def test_stored_maps_are_drawn_again_without_a_model(
    figure: Any, visattn_command: Command, dog: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    both = (dog, "--method", "rollout", "--method", "gae", "--maps", tmp_path / "maps")
    assert figure(*both, out="first.svg").code == 0

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was built")

    monkeypatch.setattr(timm, "create_model", never)
    paths = sorted((tmp_path / "maps").iterdir())
    again = ("--dpi", "60", "--out", tmp_path / "again.svg")
    done = visattn_command("figure", *paths, *again)
    assert done.code == 0, done.err
    assert (tmp_path / "again.svg").read_bytes() == (tmp_path / "first.svg").read_bytes()
    done = visattn_command("figure", *paths, *again, "--method", "gae")
    assert (done.code, done.out) == (2, "")
    assert "methods: the maps of" in done.err
    done = visattn_command("figure", *paths, dog, *again)
    assert "one or the other" in done.err


def test_stored_maps_are_drawn_from_another_directory_and_after_photos_moved(
    figure: Any,
    visattn_command: Command,
    photo: Path,
    dog: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    here = [path.relative_to(tmp_path) for path in (photo, dog)]
    methods = ("--method", "rollout", "--method", "gae", "--maps", "maps")
    small = ("--dpi", "60", "--out")
    done = visattn_command("figure", *here, *VIT, *methods, *small, "first.svg")
    assert done.code == 0, done.err
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    paths = sorted((tmp_path / "maps").iterdir())
    done = visattn_command("figure", *paths, *small, "again.svg")
    assert done.code == 0, done.err
    assert Path("again.svg").read_bytes() == (tmp_path / "first.svg").read_bytes()
    (tmp_path / "photos").rename(tmp_path / "moved")
    done = visattn_command("figure", *paths, *small, "moved.svg")
    assert done.code == 2
    found = ("--photos-in", tmp_path / "moved")
    done = visattn_command("figure", *paths, *found, *small, "moved.svg")
    assert done.code == 0, done.err
    assert Path("moved.svg").read_bytes() == (tmp_path / "first.svg").read_bytes()
    matrix = ("--agreement", "pearson", *small, "matrix.svg")
    done = visattn_command("figure", *(paths[index] for index in (0, 1, 3, 2)), *found, *matrix)
    assert done.code == 0, done.err


def test_a_config_file_is_a_figure_and_flags_override_it(figure: Any, tmp_path: Path) -> None:
    config = tmp_path / "photos" / "figure.yaml"
    config.write_text("methods: [rollout, attention]\nwidth: single\nstyle: {contours: [0.4]}\n")
    done = figure("--config", config, "--method", "gae", "-S", "opacity=0.5")
    assert done.code == 0, done.err
    caption = (tmp_path / "fig.caption.txt").read_text(encoding="utf-8")
    assert "Saliency maps by gae for" in caption
    assert "Contours at 0.4" in caption
    assert r"\linewidth" in (tmp_path / "fig.figure.tex").read_text(encoding="utf-8")


def test_the_shipped_config_names_every_key_with_its_default() -> None:
    import yaml

    from visattn.cli.figure_config import FigureConfig

    path = Path(__file__).parent.parent.parent / "configs" / "figure.yaml"
    written = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(written) == set(FigureConfig.model_fields)
    config = FigureConfig.model_validate(written)
    assert config.design.columns.inches > 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--method", "rolout"], "Did you mean 'rollout'?"),
        (["--method", "rollout", "--rows", "layer"], "Did you mean 'layers'?"),
        (["--method", "rollout", "--width", "triple"], "give 'single', 'double' or a number"),
        (["--method", "rollout", "--venue", "cvrp"], "Did you mean 'cvpr'?"),
        (["--method", "rollout", "--scale", "rows"], "Did you mean 'row'?"),
        (["--method", "rollout", "--layer", "99"], "layers=99"),
        (["--method", "rollout", "--layer", "a:b"], "START:STOP:STEP"),
        (["--method", "rollout", "--layer", "0:4:0"], "a step of 0"),
        (["--method", "rollout", "--query", "pixel:1.2.3,4"], "a pixel is pixel:X,Y"),
        (["--method", "rollout", "--method", "gae", "--agreement", "iou", "--row-label", "A"],
         "name its maps with --column-label"),
        (["--method", "rollout", "--photos-in", "."], "only stored maps (.npz)"),
        (["--method", "rollout", "--query", "1.5,2"], "a patch is ROW,COL in whole numbers"),
        (["--method", "rollout", "--target", "1", "--target", "2"], "rollout is class-agnostic"),
        (["--method", "rollout", "--difference"], "a row has 1"),
        (["--method", "rollout", "--agreement", "cosin"], "no measure 'cosin'"),
        (["--method", "rollout", "--agreement", "iou"], "at least two maps"),
        (["--method", "gae", "--agreement", "iou", "--difference"], "give one of them"),
        (["--method", "rollout", "--method", "rollout"], "--method rollout is there twice"),
        (["--method", "rollout", "--wrap", "0"], "wrap is 0"),
        (["--method", "rollout", "-O", "residul=0.5"], "Did you mean 'residual'?"),
        (["--method", "rollout", "-S", "colourmap=jet"], "Did you mean 'colormap'?"),
        (["--method", "rollout", "--weights", "a", "--model", "test_vit2", "--model", "test_vit3"],
         "one for each"),
        (["--method", "gradcam", "--rows", "layers"], "layers"),
        (["--method", "rollout", "--config", "gone.yaml"], "gone.yaml cannot be read"),
        (["gone.jpg", "--method", "rollout"], "gone.jpg: cannot be read"),
    ],
)  # fmt: skip
def test_mistakes_are_exit_code_2_and_nothing_is_written(
    figure: Any, tmp_path: Path, arguments: list[str], told: str
) -> None:
    done = figure(*arguments)
    assert (done.code, done.out) == (2, ""), done.err
    assert done.err.startswith("visattn: ")
    assert told in done.err
    assert files(tmp_path) == set()


def test_what_is_missing_is_named(visattn_command: Command, photo: Path, tmp_path: Path) -> None:
    done = visattn_command("figure", photo, "--out", tmp_path / "fig.pdf")
    assert done.code == 2
    assert "models is missing: give --model" in done.err
    done = visattn_command("figure", "--model", "test_vit", "--out", tmp_path / "fig.pdf")
    assert done.code == 2
    assert "images is missing: give IMAGE" in done.err


def test_an_unknown_format_is_refused_before_any_work(
    figure: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the model was built")

    monkeypatch.setattr(timm, "create_model", never)
    done = figure("--method", "rollout", out="fig.docx")
    assert done.code == 2
    assert "one of .pdf, .svg, .png" in done.err
    assert files(tmp_path) == set()
