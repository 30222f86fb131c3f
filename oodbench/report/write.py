"""From runs to a written report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from oodbench.errors import OodbenchError
from oodbench.files import check_output, check_writable, write_whole
from oodbench.report.comparison import compare
from oodbench.report.formats import FORMATS
from oodbench.report.paper import PaperTable, to_latex
from oodbench.report.published import with_published
from oodbench.report.runs import Run

ENDINGS = {".csv": "csv", ".json": "json", ".md": "md", ".html": "html", ".htm": "html", ".tex": "latex"}


def write_report(
    runs: Iterable[Run],
    *,
    format: str | None = None,
    intervals: bool = False,
    grouped: bool = False,
    apart: bool = False,
    paper: PaperTable | None = None,
    published: str | Path | None = None,
    figures: Path | None = None,
    figure_forms: Sequence[str] = (),
    out: Path | None = None,
) -> tuple[str, list[str]]:
    """Make a leaderboard of runs; returns the text for standard output and notes for the user.

    Args:
        format: a name of FORMATS; by default what `out` ends in, else markdown.
        intervals, grouped, apart: see `comparison.compare`.
        paper: what the LaTeX tables show; figures take its names and order.
        published: see `published.with_published`.
        figures: a folder to write figures into; none are made without it.
        figure_forms: of `figures.FORMS`; all by default.
        out: a file to write the table into; without it the table is the text that is returned.

    Raises:
        OodbenchError: anything that reading the runs, `compare`, `to_latex` or `with_published` refuses, an unknown
            ending, or a place that cannot be written.
    """
    if format is None:
        ending = out.suffix.lower() if out else ".md"
        if ending not in ENDINGS:
            raise OodbenchError(f"{out} ends in nothing that tells its format; add --format {'|'.join(FORMATS)}")
        format = ENDINGS[ending]
    if format != "latex" and paper and paper != PaperTable(names=paper.names, order=paper.order):
        raise OodbenchError(
            "--metrics, --columns, --decimals, --transpose and --width are of LaTeX; add --format latex"
        )
    if out:
        check_output(out)
    if figures:
        check_writable(figures)
    leaderboard = compare(list(runs), intervals, grouped, apart)
    notes: list[str] = []
    if published:
        leaderboard, notes = with_published(leaderboard, published)
    text = to_latex(leaderboard, paper) if format == "latex" else FORMATS[format](leaderboard)
    if figures:
        from oodbench.report.figures import save_figures

        saved = save_figures(leaderboard, figures, paper or PaperTable(), figure_forms)
        notes += [f"wrote {path}" for path in saved]
    if not out:
        return text, notes
    return "", [*notes, f"wrote {write_whole(out, text)}"]
