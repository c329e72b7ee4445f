"""Specs: names with options in one word, read back as they were written."""

from __future__ import annotations

from pathlib import Path

import pytest

from visattn.errors import ConfigError
from visattn.evaluation.datasets import DATASETS, open_dataset
from visattn.evaluation.metrics import METRICS, list_metrics, read_metric
from visattn.evaluation.spec import parsed, written


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("gae", "gae", {}),
        ("gae:start_layer=3,backward=libra", "gae", {"start_layer": 3, "backward": "libra"}),
        ("rollout:layers=[0, 2],residual=0.5", "rollout", {"layers": [0, 2], "residual": 0.5}),
        ("x:a=None,b=True,c='1,2'", "x", {"a": None, "b": True, "c": "1,2"}),
        ("x:a=-1", "x", {"a": -1}),
    ],
)
def test_specs_are_read_and_written(text: str, name: str, options: dict) -> None:
    assert parsed(text) == (name, options)
    assert parsed(written(name, options)) == (name, options)


@pytest.mark.parametrize("text", ["", ":a=1", "x:1", "x:a", "x:a=", "x:**a", "x:a=f(1)", "x:a=1)"])
def test_what_cannot_be_read_says_how_to_write_it(text: str) -> None:
    with pytest.raises(ConfigError, match="name:key=value"):
        parsed(text)


def test_a_label_holds_the_options_that_differ_from_the_defaults() -> None:
    for name in list_metrics():
        assert read_metric(name)[0] == name
        for option, default in METRICS.get(name)().options().items():
            assert read_metric(f"{name}:{option}={default!r}")[0] == name


def test_unknown_names_and_options_have_the_nearest_right_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'energy_pointing'"):
        read_metric("energy_pointin")
    with pytest.raises(ConfigError, match="energy_pointing has no option 'x'"):
        read_metric("energy_pointing:x=1")
    with pytest.raises(ConfigError, match="There is no data set"):
        open_dataset(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match="images has no option 'x'"):
        open_dataset(f"images:{tmp_path}?x=1")
    with pytest.raises(ConfigError, match="say where it is, images:PATH"):
        open_dataset("images")


def test_a_folder_alone_is_its_images(tmp_path: Path) -> None:
    assert open_dataset(str(tmp_path)) == open_dataset(f"images:{tmp_path}")
    assert open_dataset(str(tmp_path)) == DATASETS.get("images")(tmp_path)
