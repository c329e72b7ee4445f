from __future__ import annotations

import pytest

from visattn.images import Size
from visattn.overlay.text import SMALLEST, font, font_size, printable, shorten, wrap

LONG = "IMG_20240612_a_very_long_name_that_no_photo_is_wide_enough_for_final_version_2.jpeg"


@pytest.mark.parametrize("width", [40, 90, 200, 400, 5000])
def test_shortened_text_fits_and_keeps_both_ends(width):
    face = font(13)
    short = shorten(LONG, face, width)
    assert face.getlength(short) <= width
    assert short[0] == LONG[0]
    assert short[-1] == LONG[-1] or width < 50
    assert (short == LONG) == (face.getlength(LONG) <= width)


def test_shortening_leaves_out_no_more_than_it_must():
    face = font(13)
    short = shorten(LONG, face, 200)
    one_more = short.replace("…", LONG[len(short) // 2] + "…")
    assert face.getlength(one_more) > 200 - 2


@pytest.mark.parametrize("width", [60, 150, 400])
def test_wrapped_lines_fit_and_lose_no_word(width):
    words = "class: missile, projectile missile and other words (0.43)"
    lines = wrap(words, font(11), width)
    assert all(font(11).getlength(line) <= width for line in lines)
    if width > 60:
        assert " ".join(lines) == words


def test_characters_without_a_glyph_are_written_as_escapes():
    assert printable("Käfer ⅓.png") == "Käfer ⅓.png"
    assert printable("猫.png") == "\\u732b.png"
    assert printable("a\nb") == "a\\nb"


def test_text_grows_with_the_photo_and_never_gets_unreadable():
    assert font_size(Size(224, 224), None) == SMALLEST
    assert font_size(Size(10, 10), None) == SMALLEST
    assert font_size(Size(2000, 3000), None) > 3 * SMALLEST
    assert font_size(Size(40, 3000), None) == SMALLEST
    assert font_size(Size(224, 224), 30) == 30
