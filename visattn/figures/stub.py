r"""The LaTeX stub beside a figure: ``\includegraphics`` with caption and label."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from visattn.atomic import write_text
from visattn.errors import ConfigError
from visattn.figures.shared_scale import MINUS
from visattn.figures.width import Width

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", MINUS: "$-$",
}  # fmt: skip
UNREADABLE = re.compile(r"""[\\%#{}$&~^"\x00-\x1f\x7f]""")
# What pdfLaTeX does not set without further packages: all but Latin letters and common marks.
FOREIGN = re.compile(r"[^\x00-\u017f\u2010-\u2026\u20ac\u2212]")


def save_stub(
    path: str | Path, caption: str, width: Width, warnings: Sequence[str] = ()
) -> tuple[Path, Path]:
    r"""Write the caption and a LaTeX stub beside a figure, and return both paths.

    ``NAME.caption.txt`` holds the caption; ``NAME.figure.tex`` the figure environment with
    ``\includegraphics`` (``\includesvg`` for SVG), ``\caption`` and ``\label``, and the maps'
    warnings as comments. The two-part suffixes keep clear of a paper's own ``NAME.tex``. Figures of
    one name and several suffixes share both files, and the last one written is in them. Raises
    `ConfigError` for a file name that LaTeX cannot read.
    """
    path = Path(path)
    text = path.with_name(f"{path.stem}.caption.txt")
    stub = path.with_name(f"{path.stem}.figure.tex")
    environment = latex(path.name, caption, width, warnings)
    write_text(text, f"{caption}\n")
    write_text(stub, environment)
    return text, stub


def latex(name: str, caption: str, width: Width, warnings: Sequence[str] = ()) -> str:
    r"""Return the figure environment for a file of this name in LaTeX.

    White space in the caption becomes single spaces: an empty line would end the ``\caption``.
    Raises `ConfigError` for a name that LaTeX cannot read.
    """
    require_latex(name)
    svg = name.lower().endswith(".svg")
    command, package = ("includesvg", "svg") if svg else ("includegraphics", "graphicx")
    label = re.sub(r"[^A-Za-z0-9]+", "-", Path(name).stem).strip("-") or "figure"
    foreign = "".join(dict.fromkeys(FOREIGN.findall(caption)))
    lines = [
        *([f"% needs LuaLaTeX or XeLaTeX, and a font with {foreign}"] if foreign else []),
        f"% needs \\usepackage{{{package}}}",
        *(f"% warning: {' '.join(each.split())}" for each in warnings),
        f"\\begin{{{width.environment}}}[t]",
        r"  \centering",
        f"  \\{command}[width={width.latex}]{{{name}}}",
        f"  \\caption{{{escaped(' '.join(caption.split()))}}}",
        f"  \\label{{fig:{label}}}",
        f"\\end{{{width.environment}}}",
    ]
    return "\n".join(lines) + "\n"


def require_latex(name: str) -> None:
    r"""Raise `ConfigError` for a file name that ``\includegraphics`` does not read as it is."""
    wrong = "".join(dict.fromkeys(UNREADABLE.findall(name)))
    if wrong:
        raise ConfigError(
            f"{name!r}: LaTeX does not read {wrong!r} in the name of a figure; name the file "
            "without, or write no stub (--no-stub)."
        )


def escaped(text: str) -> str:
    """Return text in which LaTeX reads every character as itself."""
    return "".join(SPECIAL.get(each, each) for each in text)
