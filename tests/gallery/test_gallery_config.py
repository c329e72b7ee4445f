from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from visattn.errors import ConfigError
from visattn.gallery import MethodConfig, load_config, resolve_config
from visattn.methods import get_method
from visattn.overlay.colormap import DIVERGING, SEQUENTIAL

BASE: dict[str, Any] = {"input": "photos", "out": "out", "models": ["a"], "methods": ["m"]}
ROOT = Path(__file__).parents[2]


def write(folder: Path, text: str) -> Path:
    path = folder / "gallery.yaml"
    path.write_text(text, encoding="utf-8")
    return path


FULL = """
input: photos
out: out
models:
  - one
  - name: two
    image_size: [280, 420]
    weights: null
    target: embedding
    methods: [gae]
methods:
  - rollout
  - name: gradcam
    layers: -1
    style: {normalization: percentile}
target: 5
style: {opacity: 0.5}
"""


def test_models_and_methods_are_strings_or_mappings(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, FULL))
    one, two = config.models
    assert (one.name, one.weights, one.image_size) == ("one", "pretrained", None)
    assert (two.name, two.weights, two.image_size) == ("two", None, (280, 420))
    assert [method.name for method in config.methods_of(one)] == ["rollout", "gradcam"]
    assert [method.name for method in config.methods_of(two)] == ["gae"]
    assert (config.target_of(one), config.target_of(two)) == (5, "embedding")
    gradcam = config.methods[1]
    assert gradcam.options == {"layers": -1}
    assert config.style_of(gradcam) == {"opacity": 0.5, "normalization": "percentile"}
    assert config.input == Path("photos")


def test_overrides_go_before_the_file(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, FULL), {"limit": 3, "out": "elsewhere"})
    assert (config.limit, config.out, config.input) == (3, Path("elsewhere"), Path("photos"))


def test_flags_go_before_the_file_and_keep_the_settings_of_a_name(tmp_path: Path) -> None:
    path = write(tmp_path, FULL)
    config = resolve_config(
        "other",
        models=["two", "three"],
        methods=["gradcam", "attention"],
        config_path=path,
        target="207",
        batch_size=2,
        overwrite=False,
    )
    two, three = config.models
    assert config.input == Path("other")
    assert (two.image_size, three.image_size) == ((280, 420), None)
    assert [method.name for method in config.methods_of(two)] == ["gradcam", "attention"]
    assert config.methods_of(two)[0].options == {"layers": -1}
    assert (config.target_of(two), config.target_of(three)) == (207, 207)
    assert (config.batch_size, config.overwrite) == (2, False)


def test_everything_may_come_from_flags() -> None:
    config = resolve_config("photos", "out", ["a"], ["m"], target="tabby cat", overwrite=True)
    assert config.target == "tabby cat"
    assert config.overwrite


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metods": ["m"]}, "'metods'. Did you mean 'methods'?"),
        ({"models": [{"name": "a", "image_sise": 3}]}, "in models[0]. Did you mean 'image_size'?"),
        ({"models": [{"nam": "a"}]}, "models[0].name is missing"),
        ({"batch_size": "8"}, "batch_size is '8', but must be a whole number."),
        ({"batch_size": 0}, "batch_size is 0, but must be a number of at least 1."),
        ({"limit": True}, "limit is True, but must be a whole number."),
        ({"overwrite": "yes"}, "overwrite is 'yes', but must be true or false."),
        ({"target": [1]}, "target is [1], but must be a class index, a label"),
        ({"models": [{"name": "a", "image_size": "big"}]}, "models[0].image_size is 'big'"),
        ({"models": [{"name": "a", "image_size": [1, 2, 3]}]}, "pixels or [height, width]"),
        ({"models": [{"name": "a", "labels": 5}]}, "models[0].labels is 5, but must be a list"),
        ({"models": []}, "models is [], but must be at least one entry."),
        ({"models": [7]}, "models[0] is 7, but must be a name or a mapping"),
        ({"models": 7}, "models is 7, but must be a list."),
        ({"methods": [3.5]}, "methods[0] is 3.5"),
        ({"methods": [{"name": "m", "options": 4}]}, "methods[0].options is 4"),
        ({"methods": [{"layers": 4}]}, "methods[0].name is missing"),
        ({"style": "red"}, "style is 'red', but must be a mapping"),
        ({"models": ["a", "a"]}, "'a' is there twice"),
        ({"methods": ["m", {"name": "m", "layers": 1}]}, "'m' is there twice"),
        ({"methods": []}, "no method for a"),
        ({"input": None}, "input is None, but must be a path."),
    ],
)
def test_a_wrong_config_names_key_value_and_repair(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(overrides={**BASE, **change})
    assert words in str(caught.value)


def test_missing_keys_name_their_flags() -> None:
    with pytest.raises(ConfigError) as caught:
        resolve_config()
    for flag in ("INPUT_DIR", "--out", "--model"):
        assert flag in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "input: [", "", "\x00"])
def test_a_file_that_is_no_mapping_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"gallery\.yaml"):
        load_config(write(tmp_path, text))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml cannot be read"):
        load_config(tmp_path / "nowhere.yaml")


@pytest.mark.parametrize(
    ("name", "folder"),
    [("demo", "photos"), ("demo-planted", "planted/scenes"), ("gallery", "photos")],
)
def test_the_presets_load_and_open_with_their_command(name: str, folder: str) -> None:
    path = ROOT / "configs" / f"{name}.yaml"
    config = load_config(path)
    assert config.input == Path("data") / folder
    assert f"visattn gallery --config configs/{name}.yaml" in path.read_text(encoding="utf-8")


def test_the_documented_preset_shows_every_key_with_its_default() -> None:
    import yaml

    from visattn.gallery import GalleryConfig, ModelConfig

    shown = yaml.safe_load((ROOT / "configs" / "gallery.yaml").read_text(encoding="utf-8"))
    assert set(shown) == set(GalleryConfig.model_fields)
    assert set(shown["models"][0]) == set(ModelConfig.model_fields)
    config = load_config(ROOT / "configs" / "gallery.yaml")
    for name, field in GalleryConfig.model_fields.items():
        if name not in ("input", "out", "models", "methods", "style"):
            assert getattr(config, name) == field.default, name
    first = config.models[0]
    for name in ("weights", "image_size", "target", "labels", "methods"):
        assert getattr(first, name) == ModelConfig.model_fields[name].default, name


def test_the_documented_style_is_the_default_one() -> None:
    from visattn.gallery.drawing import gallery_style
    from visattn.overlay import Style

    text = (ROOT / "configs" / "gallery.yaml").read_text(encoding="utf-8")
    shown = load_config(ROOT / "configs" / "gallery.yaml").style
    assert list(shown) == [field.name for field in fields(Style)]
    assert Style.create(**{**shown, "caption": False, "colorbar": False}) == Style()
    assert Style.create(**shown) == gallery_style({})
    assert f"{SEQUENTIAL}, or {DIVERGING} where" in text


FILE = """
models: [{name: a, image_size: 96}, {name: b, methods: [{name: gae}]}]
methods: [{name: rollout, start_layer: 1, style: {opacity: 0.1, box: 0.5}}]
style: {dim: 0.2}
"""


def test_flags_for_options_style_and_size_reach_what_has_them(tmp_path: Path) -> None:
    config = resolve_config(
        *("photos", "out"),
        config_path=write(tmp_path, FILE),
        options={"start_layer": 3},
        style={"opacity": 0.4},
        image_size=(64, 32),
    )
    assert [model.image_size for model in config.models] == [96, (64, 32)]
    (rollout,), (gae,) = (config.methods_of(model) for model in config.models)
    assert (rollout.options["start_layer"], "start_layer" in gae.options) == (
        3,
        "start_layer" in {field.name for field in fields(get_method("gae"))},
    )
    assert config.style_of(rollout) == {"dim": 0.2, "opacity": 0.4, "box": 0.5}
    assert config.style_of(gae) == {"dim": 0.2, "opacity": 0.4}


def test_an_option_that_no_chosen_method_has_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"has an option 'start_layr'.*start_layer"):
        resolve_config("photos", "out", ["a"], ["center", "rollout"], options={"start_layr": 3})
    with pytest.raises(ConfigError, match="rolout"):
        resolve_config("photos", "out", ["a"], ["rolout"], options={"start_layer": 3})


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        (["random"], [None, None]),
        (["pretrained", "b.pth"], ["pretrained", "b.pth"]),
        ((), ["pretrained", None]),
    ],
)
def test_weights_are_for_all_models_or_one_for_each(
    tmp_path: Path, weights: list[str], found: list[str | None]
) -> None:
    config = resolve_config(config_path=write(tmp_path, FULL), weights=weights)
    assert [model.weights for model in config.models] == found
    assert [model.name for model in config.models] == ["one", "two"]
    assert config.methods_of(config.models[1]) == (MethodConfig(name="gae"),)


def test_random_weights_are_no_file(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, FULL.replace("weights: null", "weights: random")))
    assert config.models[1].weights is None


def test_a_wrong_number_of_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="3 --weights were given for 2 --model"):
        resolve_config(config_path=write(tmp_path, FULL), weights=["a", "b", "c"])
