"""Layers, heads and queries as they are typed, and what is told to whoever mistypes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from visattn.cli.figure_values import numbers, query_of
from visattn.errors import ConfigError
from visattn.query import Pixel


def never() -> int:
    raise AssertionError("nothing had to be counted")


@pytest.mark.parametrize(
    ("texts", "found", "count"),
    [
        (["3", "-1", "+2", "mean"], [3, -1, 2, "mean"], never),
        (["all"], [0, 1, 2, 3], lambda: 4),
        (["0:4:2", "2", "::-2"], [0, 2, 3, 1], lambda: 4),
        ([], [], never),
    ],
)
def test_numbers(texts: list[str], found: list[Any], count: Callable[[], int]) -> None:
    assert numbers("--layer", texts, count) == found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("0:4:0", "a step of 0 goes nowhere"),
        ("--3", "give a number, START:STOP:STEP or 'all'"),
        ("1.5", "give a number, START:STOP:STEP or 'all'"),
        ("²", "give a number, START:STOP:STEP or 'all'"),
        ("1:2:3:4", "give a number, START:STOP:STEP or 'all'"),
        ("7:9", "chooses nothing of layer 0, which has 4"),
    ],
)
def test_what_is_no_number_is_named(text: str, told: str) -> None:
    with pytest.raises(ConfigError) as error:
        numbers("--head", [text], lambda: 4, " of layer 0")
    assert str(error.value).startswith(f"--head {text}" if "which" in told else f"--head {text!r}")
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("cls", "cls"), ("mean", "mean"), ("5, 8", (5, 8)), ("-1,0", (-1, 0)),
        ("pixel:1.5,-.5", Pixel(1.5, -0.5)), ("pixel:1e2,4", Pixel(100, 4)),
    ],
)  # fmt: skip
def test_queries(text: str, found: Any) -> None:
    assert query_of(text) == found


@pytest.mark.parametrize(
    "text", ["pixel:1.2.3,4", "1.5,2", "5,8,9", "pixel:nan,3", "pixel:3", "5", "cell:5,8", ""]
)
def test_what_is_no_query_is_named(text: str) -> None:
    with pytest.raises(ConfigError, match=r"a patch is ROW,COL in whole numbers") as error:
        query_of(text)
    assert repr(text) in str(error.value)
