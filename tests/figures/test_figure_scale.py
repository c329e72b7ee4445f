"""Scales: whose values share a bar, and what the bar says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from visattn.errors import ConfigError
from visattn.figures import Design, difference
from visattn.figures.shared_scale import MINUS, Scaling, number


def scaling(maps: Any, **options: Any) -> Scaling:
    return Scaling.of(maps, Design.create(**options))


def ramp(make_map: Any, high: float, **facts: Any) -> Any:
    return make_map(np.linspace(0, high, 12).reshape(3, 4), **facts)


def test_maps_of_one_method_and_model_share_a_scale_of_real_values(make_map: Any) -> None:
    found = scaling([[ramp(make_map, 0.5), ramp(make_map, 2)]])
    (bar,) = found.bars
    assert bar.ends == ("0", "2")
    assert bar.label == "raw values of gradcam, minimum to maximum; one scale for all"
    assert {style.limits for row in found.styles for style in row} == {(0.0, 2.0)}


@pytest.mark.parametrize(
    "other", [{"method": "layercam"}, {"model": "vit_base"}, {"changed": {"cell": 4}}]
)
def test_maps_of_two_kinds_do_not(make_map: Any, other: dict[str, Any]) -> None:
    found = scaling([[ramp(make_map, 1), ramp(make_map, 2, **other)]])
    (bar,) = found.bars
    assert (bar.ends, bar.label) == (("minimum", "maximum"), "each panel on its own scale")
    assert {style.limits for row in found.styles for style in row} == {None}


def test_nor_do_maps_of_which_one_would_hide_the_others(make_map: Any) -> None:
    assert scaling([[ramp(make_map, 1), ramp(make_map, 100)]]).kind == "panel"
    assert scaling([[ramp(make_map, 1), ramp(make_map, 3)]]).kind == "unit"


def test_who_asks_for_a_common_scale_of_two_methods_is_told_so(make_map: Any) -> None:
    maps = [[ramp(make_map, 1), ramp(make_map, 2, method="layercam", model="vit_base")]]
    (bar,) = scaling(maps, scale="shared").bars
    assert bar.label.startswith("raw values of gradcam, layercam (2 models)")


def test_each_row_and_each_column_can_have_its_own(make_map: Any) -> None:
    maps = [[ramp(make_map, 4 * row + column + 1) for column in range(2)] for row in range(2)]
    rows = scaling(maps, scale="row")
    assert [(bar.row, bar.ends[1]) for bar in rows.bars] == [(0, "2"), (1, "6")]
    assert rows.statement == "one scale for each row: raw values, minimum to maximum"
    columns = scaling(maps, scale="column")
    assert [(bar.column, bar.ends[1]) for bar in columns.bars] == [(0, "5"), (1, "6")]


def test_rows_of_several_methods_say_whose_values_share_a_bar(make_map: Any) -> None:
    maps = [[ramp(make_map, 1), ramp(make_map, 2, method="layercam")]]
    assert "raw values of gradcam, layercam" in scaling(maps, scale="row").statement


def test_signed_and_unsigned_maps_have_no_scale_in_common(make_map: Any) -> None:
    signed = make_map(np.linspace(-1, 1, 12).reshape(3, 4), signed=True, method="saliency")
    with pytest.raises(ConfigError, match="no scale in common; choose one normalisation") as error:
        scaling([[ramp(make_map, 1), signed]], scale="shared")
    assert "gradcam minimum to maximum and saliency symmetric about zero" in str(error.value)
    (bar,) = scaling([[ramp(make_map, 2), signed]], scale="shared", normalization="symmetric").bars
    assert bar.scale.diverging
    assert bar.scale.limits == (-2, 2)


def test_a_bar_for_each_kind_of_panel(make_map: Any) -> None:
    signed = make_map(np.linspace(-1, 1, 12).reshape(3, 4), signed=True, method="saliency")
    first, second = scaling([[ramp(make_map, 1), signed]]).bars
    assert first.ends == ("minimum", "maximum")
    assert second.ends == (f"{MINUS}max |value|", "+max |value|")
    assert second.scale.diverging


def test_a_difference_has_its_own_bar_beside_a_shared_one(make_map: Any) -> None:
    one, other = ramp(make_map, 1), ramp(make_map, 2)
    shared, signed = scaling([[one, other, difference(one, other)]]).bars
    assert shared.ends == ("0", "2")
    assert signed.scale.limits == (-1, 1)
    assert signed.label.startswith("differences (raw values)")


def test_a_map_without_signal_takes_part_in_no_scale(make_map: Any, silent: Any) -> None:
    nan = make_map(np.full((3, 4), np.nan))
    (bar,) = scaling([[ramp(make_map, 1), silent, nan]]).bars
    assert bar.ends == ("0", "1")
    assert scaling([[silent]]).bars == []


def test_values_beyond_a_clipped_scale_are_marked(make_map: Any) -> None:
    (bar,) = scaling([[ramp(make_map, 1), ramp(make_map, 2)]], limits=(0.5, 1.5)).bars
    assert bar.ends == ("≤ 0.5", "≥ 1.5")
    assert "fixed limits" in bar.label


@pytest.mark.parametrize("scale", ["auto", "shared"])
def test_limits_are_those_of_maps_and_not_of_differences(make_map: Any, scale: str) -> None:
    one, other = ramp(make_map, 1), ramp(make_map, 3)
    rows = [[one, other, difference(one, other)]] * 2
    found = scaling(rows, limits=(0, 0.01), scale=scale)
    fixed, signed = found.bars
    assert fixed.scale.limits == (0, 0.01)
    assert signed.scale.limits == (-2, 2)
    assert signed.scale.diverging
    assert "fixed" not in signed.label
    assert [style.limits for style in found.styles[0]] == [(0, 0.01), (0, 0.01), (-2, 2)]


def test_numbers_are_set_as_in_print() -> None:
    assert number("-0.5") == f"{MINUS}0.5"
    assert number("≥ 1.5e-07") == "≥ 1.5\N{MULTIPLICATION SIGN}10⁻⁷"
    assert number("0.25") == "0.25"
