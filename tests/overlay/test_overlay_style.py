from __future__ import annotations

import dataclasses

import pytest

from visattn.errors import ConfigError
from visattn.overlay import Style


def test_an_unknown_option_names_the_nearest_right_one():
    with pytest.raises(ConfigError, match=r"'opacty'.*'opacity'"):
        Style.create(opacty=0.5)


def test_an_unknown_colormap_names_the_nearest_right_one():
    with pytest.raises(ConfigError, match=r"'viridiss'.*'viridis'"):
        Style.create(colormap="viridiss")


@pytest.mark.parametrize(
    "wrong",
    [
        {"opacity": 1.2},
        {"opacity": -0.1},
        {"opacity": "much"},
        {"opacity": True},
        {"opacity": float("nan")},
        {"dim": 2},
        {"mask": 0},
        {"mask": 1.5},
        {"box": -0.5},
        {"contours": [1.5]},
        {"contours": "half"},
        {"contours": ["0.5"]},
        {"interpolation": "bicubic"},
        {"normalization": "zscore"},
        {"unseen": "blur"},
        {"limits": [1.0]},
        {"limits": [2.0, 1.0]},
        {"limits": [0.0, float("inf")]},
        {"limits": [0.0, 1.0], "normalization": "max"},
        {"line_color": "blueish"},
        {"background": 3},
        {"line_width": 0},
        {"font_size": 2},
        {"caption": "yes"},
        {"colormap": 5},
    ],
    ids=str,
)
def test_a_value_out_of_range_is_a_config_error_that_names_the_option(wrong):
    with pytest.raises(ConfigError) as raised:
        Style.create(**wrong)
    assert next(iter(wrong)).rstrip("s") in str(raised.value)


def test_options_may_be_written_as_in_a_config_file():
    style = Style.create(contours=[0.25, 0.75], limits=[0, 2])
    assert style.contours == (0.25, 0.75)
    assert style.limits == (0, 2)
    assert Style.create(contours=0.3).contours == (0.3,)
    assert Style.create(contours=True).contours == (0.5,)
    assert Style.create(contours=False).contours == ()


def test_a_style_is_frozen_and_survives_a_round_trip_through_plain_values():
    style = Style.create(contours=[0.5], colormap="magma", mask=0.5)
    assert Style.create(**dataclasses.asdict(style)) == style
    with pytest.raises(dataclasses.FrozenInstanceError):
        style.opacity = 0.1
