"""Files: fonts inside, rasters at the stated dpi, widths of venues, and always the same bytes."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image as PillowImage

from visattn.errors import ConfigError
from visattn.figures import VENUES, Width, caption, figure, save, save_maps, save_stub, warnings
from visattn.figures.stub import escaped, latex
from visattn.saliency import SaliencyMap, Target

AGAIN = """
import sys, hashlib
import numpy as np
from pathlib import Path
from visattn.figures import agreement, agreement_figure, difference, figure, save
from visattn.geometry import Geometry
from visattn.images import Image, Size
from visattn.saliency import SaliencyMap
photo = Image(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8), Path("cat.jpg"))
chain = Geometry.plain(Size(60, 90)).with_grid(Size(3, 4))
grid = np.arange(12).reshape(3, 4)
grids = {"a": grid, "b": grid[::-1]}
a, b = (SaliencyMap(each, chain, name, "vit", photo=photo) for name, each in grids.items())
panels = figure([a, b, difference(a, b)], contours=True, letters=True)
pages = panels, agreement_figure(agreement([a, b]))
for suffix in ("pdf", "svg", "png"):
    for number, page in enumerate(pages):
        path = save(page, Path(sys.argv[1]) / f"{number}.{suffix}")
        print(hashlib.sha256(path.read_bytes()).hexdigest())
"""


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    printed = []
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", AGAIN, str(tmp_path / seed)],
            capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        printed.append(run.stdout.split())
    assert len(set(printed[0])) == 6
    assert printed[0] == printed[1]


def test_the_same_figure_can_be_saved_twice(make_map: Any, tmp_path: Path) -> None:
    page = figure([make_map(), make_map(method="b")])
    for suffix in ("pdf", "svg", "png"):
        sums = {
            hashlib.sha256(save(page, tmp_path / f"{i}.{suffix}").read_bytes()).hexdigest()
            for i in range(2)
        }
        assert len(sums) == 1


def test_settings_of_the_user_change_nothing(make_map: Any, tmp_path: Path) -> None:
    own = {
        "font.family": "serif", "image.origin": "lower", "savefig.bbox": "tight",
        "figure.facecolor": "black", "svg.fonttype": "none", "savefig.dpi": 40,
    }  # fmt: skip
    plain = save(figure([make_map(tone=None)]), tmp_path / "plain.svg").read_bytes()
    with mpl.rc_context(own):
        assert save(figure([make_map(tone=None)]), tmp_path / "own.svg").read_bytes() == plain


def test_raw_maps_are_kept_beside_the_figure(make_map: Any, tmp_path: Path) -> None:
    maps = [[make_map(changed={"layers": layer}, name="a b/c") for layer in range(2)]]
    first, second = save_maps(maps, tmp_path / "maps")
    assert first.name == "1-c-vit-tiny-gradcam-cat-0.77-layer-0.npz"
    assert second.name.startswith("2-")
    assert (SaliencyMap.load(first).grid == maps[0][0].grid).all()


def test_a_pdf_embeds_its_fonts_and_has_the_width_of_the_column(
    make_map: Any, tmp_path: Path
) -> None:
    data = save(figure(make_map(), width="single"), tmp_path / "page.pdf").read_bytes()
    assert b"/FontFile2" in data
    assert b"/Type3" not in data
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+) ([\d.]+) ?\]", data)
    assert box is not None
    assert float(box[1]) / 72 == pytest.approx(VENUES["cvpr"].single, abs=1e-4)
    assert b"CreationDate" not in data


@pytest.mark.parametrize("dpi", [100, 300])
def test_rasters_have_the_stated_dpi(make_map: Any, tmp_path: Path, dpi: int) -> None:
    page = figure(make_map(), width=4.0, dpi=dpi, photos=False)
    with PillowImage.open(save(page, tmp_path / "page.png")) as drawn:
        assert drawn.width == 4 * dpi
        assert drawn.info["dpi"][0] == pytest.approx(dpi, abs=0.1)
    text = save(page, tmp_path / "page.svg").read_text(encoding="utf-8")
    assert "<text" not in text, "letters are paths"
    widths = []
    for encoded in re.findall(r'base64,\s*([^"]+)"', text):
        with PillowImage.open(io.BytesIO(base64.b64decode(encoded))) as raster:
            widths.append(raster.width)
    assert max(widths) == 4 * dpi


def test_another_suffix_is_refused(make_map: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"page.docx: a figure is written as one of .pdf"):
        save(figure(make_map()), tmp_path / "page.docx")
    assert list(tmp_path.iterdir()) == []


def test_widths_of_venues() -> None:
    single, double = Width.of("single"), Width.of("double")
    assert single.inches == pytest.approx(3.281, abs=1e-3)
    assert double.inches == pytest.approx(6.875, abs=1e-3)
    assert (single.environment, double.environment) == ("figure", "figure*")
    assert Width.of("double", "neurips").environment == "figure"
    assert Width.of("single", "nature").inches == pytest.approx(89 / 25.4)
    assert Width.of("2.5").latex == "2.5in"
    assert Width.of(5).environment == "figure*"
    with pytest.raises(ConfigError, match="nan"):
        Width.of("nan")


def test_the_caption_says_what_a_reader_must_know(make_map: Any, silent: Any) -> None:
    maps = [
        make_map(changed={"query": [1, 1]}, crop=0.8),
        make_map(method="rollout", target=None),
        silent,
    ]
    text = caption(maps, contours=[0.25])
    for words in (
        "Saliency maps by gradcam, rollout and layercam for vit_tiny",
        "on cat",
        "Explained: cat 0.77.",
        "rollout knows no class",
        "Colour: each panel on its own scale, from minimum to maximum.",
        "Dimmed, outside the frame: what the model did not see.",
        "Contours at 0.25 of the scale.",
        "The outlined cell is the query.",
        "No signal: layercam cat (all cells are zero).",
    ):
        assert words in text
    assert text.count("  ") == 0


def test_the_caption_of_a_shared_scale(make_map: Any) -> None:
    text = caption([make_map(), make_map(name="a dog", target=Target(2, "dog"))])
    assert "Colour: raw values of gradcam, minimum to maximum; one scale for all." in text


def test_warnings_are_told_once(make_map: Any) -> None:
    maps = [make_map(method=method, warnings=("be careful",)) for method in ("a", "b")]
    assert warnings(maps) == ["a cat, b cat: be careful"]


def test_the_stub_includes_the_figure(tmp_path: Path) -> None:
    (tmp_path / "fig 1.tex").write_text("a paper")
    text, stub = save_stub(tmp_path / "fig 1.pdf", "A & B, 50 %", Width.of("double"), ["mind\nit"])
    assert text.read_text() == "A & B, 50 %\n"
    lines = stub.read_text().splitlines()
    assert lines[0] == r"% needs \usepackage{graphicx}"
    assert "% warning: mind it" in lines
    assert r"  \includegraphics[width=\textwidth]{fig 1.pdf}" in lines
    assert r"  \caption{A \& B, 50 \%}" in lines
    assert r"  \label{fig:fig-1}" in lines
    assert lines[-1] == r"\end{figure*}"
    assert (tmp_path / "fig 1.tex").read_text() == "a paper"
    assert "includesvg" in latex("a.svg", "", Width.of("single"))


def test_a_line_break_does_not_end_the_caption() -> None:
    text = latex("a.pdf", "on a\n\ncat\tand dog", Width.of("single"))
    assert r"\caption{on a cat and dog}" in text


def test_letters_that_pdflatex_does_not_set_are_named() -> None:
    text = latex("a.pdf", "on 写真 and späß \u2013 50 %", Width.of("single"))
    assert text.splitlines()[0] == "% needs LuaLaTeX or XeLaTeX, and a font with 写真"
    assert latex("a.pdf", "on späß \u2013 “x” \u2212 y", Width.of("single")).startswith(
        "% needs \\use"
    )


PAPER = r"""\documentclass[twocolumn]{article}
\usepackage{graphicx}
\begin{document}
\input{one.figure}
\input{two.figure}
Text.
\end{document}
"""
NASTY = r"""50% & $cost_{x} # ~^ "><img src=x> \end{document} |a| späß "%"""


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="there is no pdflatex")
def test_latex_compiles_the_stub(make_map: Any, tmp_path: Path) -> None:
    drawn = figure([make_map(), make_map(method="b")], width="single")
    for name, width in (("one.pdf", "single"), ("two.png", "double")):
        save(drawn, tmp_path / name)
        save_stub(tmp_path / name, f"{NASTY} {name}", Width.of(width), [NASTY])
    (tmp_path / "paper.tex").write_text(PAPER)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False,
        timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Output written on paper.pdf" in done.stdout
    assert "Overfull" not in done.stdout
    if shutil.which("pdftotext"):
        words = ["pdftotext", "-layout", "paper.pdf", "-"]
        text = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=True)
        assert "Figure 1:" in text.stdout
        assert "\\end{document}" in text.stdout


@pytest.mark.parametrize("name", ["50%.pdf", "a#1.pdf", "a{b.pdf", "a\nb.pdf", "a~b.svg"])
def test_a_name_that_latex_cannot_read_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"LaTeX does not read .*--no-stub"):
        save_stub(tmp_path / name, "", Width.of("single"))
    assert list(tmp_path.iterdir()) == []


def test_captions_are_escaped_for_latex() -> None:
    assert escaped(r"a_b\c{d}~^#$<") == (
        r"a\_b\textbackslash{}c\{d\}\textasciitilde{}\textasciicircum{}\#\$\textless{}"
    )


def test_the_pixels_of_a_png_are_those_of_the_panels(make_map: Any, tmp_path: Path) -> None:
    rows = [
        [make_map(name=name, size=size, tone=None, method=m) for m in ("a", "b")]
        for name, size in (("cat", (60, 100)), ("a dog", (130, 70)))
    ]
    page = figure(rows, width=3.28, dpi=150, letters=True)
    with PillowImage.open(save(page, tmp_path / "page.png")) as opened:
        drawn = np.asarray(opened.convert("RGB"))
    panels = [axes for axes in page.axes if not axes.axison]
    assert len(panels) == 6
    for axes in panels:
        raster = np.asarray(axes.images[0].get_array())
        box = axes.get_position()
        left, top = round(box.x0 * drawn.shape[1]), round((1 - box.y1) * drawn.shape[0])
        shown = drawn[top : top + raster.shape[0], left : left + raster.shape[1]]
        assert np.array_equal(shown, raster)
