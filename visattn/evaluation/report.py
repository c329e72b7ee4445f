"""The report: a scorecard as files."""

from __future__ import annotations

from pathlib import Path

from visattn.atomic import write_text
from visattn.evaluation.chart import chart
from visattn.evaluation.latex import as_latex
from visattn.evaluation.markdown import as_markdown
from visattn.evaluation.scorecard import Scorecard
from visattn.evaluation.tables import as_csv, as_json
from visattn.figures import save

TABLES = {"json": as_json, "csv": as_csv, "md": as_markdown, "tex": as_latex}
FIGURES = ("pdf", "png")


def write_report(card: Scorecard, folder: Path) -> list[Path]:
    """Write ``scorecard.{json,csv,md,tex,pdf,png}`` into a folder and return their paths.

    Where nothing was measured there is no figure. The same scorecard gives the same bytes.
    """
    paths = []
    for suffix, table in TABLES.items():
        paths.append(folder / f"scorecard.{suffix}")
        # Names of files may hold bytes that are no text; tables show them as ``\udcff``.
        text = table(card).encode("utf-8", "backslashreplace").decode("utf-8")
        write_text(paths[-1], text)
    if any(row.interval is not None for row in card.rows):
        figure = chart(card)
        paths += [save(figure, folder / f"scorecard.{suffix}") for suffix in FIGURES]
    return paths
