"""Feature maps that windows do not fit are refused, with both sizes and the repair."""

from __future__ import annotations

import pytest

from tests import zoo
from visattn.adapters import Refusal, TokenLayout, find_adapter
from visattn.images import Size
from visattn.tokens.partition import misfit


def test_whole_windows_fit() -> None:
    assert misfit("stage", TokenLayout((), Size(8, 12), (4.0, 4.0)), Size(4, 6)) is None


@pytest.mark.parametrize("window", [Size(5, 6), Size(4, 5), Size(16, 6)])
def test_a_rest_is_refused_with_both_sizes(window: Size) -> None:
    refusal = misfit("stage 2", TokenLayout((), Size(8, 12), (4.0, 4.0)), window)
    assert isinstance(refusal, Refusal)
    for part in ("stage 2", "8 x 12", f"{window.height} x {window.width}", "image_size"):
        assert part in refusal.reason


@pytest.mark.parametrize(
    ("name", "size"),
    [("maxvit", (64, 88)), ("maxvit_parallel", (72, 96)), ("gcvit", (64, 88)), ("nest", (72, 72))],
)
def test_models_that_do_not_pad_refuse_other_sizes(name: str, size: tuple[int, int]) -> None:
    chain = find_adapter(zoo.build(name)).chain(Size(*size))
    assert isinstance(chain, Refusal)
    assert "windows of" in chain.reason
