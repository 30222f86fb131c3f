"""From runs to a written report."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from oodbench.errors import OodbenchError
from oodbench.files import check_writable, write_whole
from oodbench.report.comparison import compare
from oodbench.report.formats import FORMATS
from oodbench.report.published import with_published
from oodbench.report.runs import Run

ENDINGS = {".csv": "csv", ".md": "md", ".html": "html", ".htm": "html", ".tex": "latex"}


def write_report(
    runs: Iterable[Run],
    *,
    format: str | None = None,
    intervals: bool = False,
    grouped: bool = False,
    apart: bool = False,
    published: Path | None = None,
    figures: Path | None = None,
    out: Path | None = None,
) -> tuple[str, list[str]]:
    """Make a leaderboard of runs; returns the text for standard output and notes for the user.

    Args:
        format: a name of FORMATS; by default what `out` ends in, else markdown.
        intervals, grouped, apart: see `comparison.compare`.
        published: see `published.with_published`.
        figures: a folder to write figures into; none are made without it.
        out: a file to write the table into; without it the table is the text that is returned.

    Raises:
        OodbenchError: anything that reading the runs, `compare` or `with_published` refuses, an unknown ending, or a
            place that cannot be written.
    """
    if format is None:
        ending = out.suffix.lower() if out else ".md"
        if ending not in ENDINGS:
            raise OodbenchError(f"{out} ends in nothing that tells its format; add --format {'|'.join(FORMATS)}")
        format = ENDINGS[ending]
    for folder in filter(None, (out and out.parent, figures)):
        check_writable(folder)
    leaderboard = compare(list(runs), intervals, grouped, apart)
    notes: list[str] = []
    if published:
        leaderboard, notes = with_published(leaderboard, published)
    text = FORMATS[format](leaderboard)
    if figures:
        from oodbench.report.figures import save_figures

        notes += [f"wrote {path}" for path in save_figures(leaderboard, figures)]
    if not out:
        return text, notes
    return "", [*notes, f"wrote {write_whole(out, text)}"]
