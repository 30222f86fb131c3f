"""A leaderboard as one HTML file that works offline: tables that sort and filter, plots, worst images, cards."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from oodbench.errors import OodbenchError
from oodbench.report import layout, training
from oodbench.report.comparison import Leaderboard
from oodbench.report.plots import SIDE, plots, points_at_95
from oodbench.report.runs import Measurement, Run
from oodbench.report.worst import Pictures, as_image, worst_images

SHOWN = 64
"""CSS pixels of the longer side of a thumbnail."""


@dataclass(frozen=True)
class Sprite:
    """All pictures kept of a set, side by side in one image, so that the page holds each once.

    Attributes:
        name: of its CSS class.
        source: the image as a data URI.
        count: pictures in it.
        width, height: of one picture as shown, in CSS pixels.
    """

    name: str
    source: str
    count: int
    width: int
    height: int


@dataclass(frozen=True)
class Thumbnail:
    """One of the images that a detector got most wrong.

    Attributes:
        place: in its set's sprite.
        index: in its set.
        wrong: whether it lies on the wrong side of the threshold that keeps 95 % of ID.
    """

    place: int
    index: int
    score: float
    wrong: bool


@dataclass(frozen=True)
class Thumbnails:
    """The most wrong images of one set, most wrong first."""

    name: str
    images: list[Thumbnail]


def to_html(leaderboard: Leaderboard) -> str:
    """One self-contained page: no script, style, font or image comes from anywhere else."""
    pages = environment()
    pages.filters["block_title"] = layout.block_title
    keys = [(run, key) for run in leaderboard.runs for key in run.pictures]
    rows = [(block, row) for block in leaderboard.blocks for row in block.rows.values()]
    names = {
        "ID": [row.first.id for _, row in rows],
        "Model": [row.first.model for _, row in rows],
        "Detector": [row.first.detector for _, row in rows],
        "Set": [row.first.ood for _, row in rows],
        "Group": [row.first.group for _, row in rows],
    }
    return pages.get_template("report.html.j2").render(
        board=leaderboard,
        layout=layout,
        metrics=layout.METRIC_TITLES,
        choices={name: list(dict.fromkeys(values)) for name, values in names.items() if len(set(values)) > 1},
        anchors={row: f"plots-{number}" for number, (_, row) in enumerate(rows)},
        side=SIDE,
        plots=plots,
        worst=worst_thumbnails,
        sprites={(run, key): sprite(f"sprite-{n}", run.pictures[key]) for n, (run, key) in enumerate(keys)},
        sheets=list(sheets(leaderboard.runs)),
        training=training,
        card_text=card_text,
        style=Markup(_template("report.css")),
        script=Markup(_template("report.js")),
    )


def summaries(leaderboard: Leaderboard) -> str:
    """`layout.summary` of each block as HTML tables, for a notebook."""
    return environment().get_template("summaries.html.j2").render(board=leaderboard, layout=layout)


def sprite(name: str, pictures: Pictures) -> Sprite:
    """The pictures of a set as one image."""
    count, height, width, _ = pictures.pixels.shape
    scale = SHOWN / max(height, width)
    side_by_side = np.concatenate(list(pictures.pixels), axis=1)
    return Sprite(name, _png(side_by_side), count, round(width * scale), round(height * scale))


def environment(latex: bool = False) -> Environment:
    """Where templates are found; LaTeX has its own delimiters, as { and % mean something there."""
    delimiters: dict[str, Any] = {}
    if latex:
        delimiters = {
            "block_start_string": "<%",
            "block_end_string": "%>",
            "variable_start_string": "<<",
            "variable_end_string": ">>",
            "comment_start_string": "<#",
            "comment_end_string": "#>",
        }
    made = Environment(
        loader=PackageLoader("oodbench.report"),
        autoescape=not latex,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **delimiters,
    )
    made.globals["TIED_MARK"] = layout.TIED_MARK
    return made


def worst_thumbnails(one: Measurement) -> dict[str, Thumbnails]:
    """Title → the most wrong images of the OOD and of the ID set; empty where the run kept no pictures.

    Raises:
        OodbenchError: the pictures beside the card lack one of them.
    """
    if (one.classifier, one.ood) not in one.run.pictures:
        return {}
    threshold = one.counts.thresholds[points_at_95(one.counts)[0]]
    worst = worst_images(one.id_scores, one.ood_scores)
    return {
        "OOD taken for ID": _thumbnails(one, one.ood, worst.ood_images, one.ood_scores, one.ood_scores >= threshold),
        "ID taken for OOD": _thumbnails(one, one.id, worst.id_images, one.id_scores, one.id_scores < threshold),
    }


def sheets(runs: Sequence[Run]) -> Iterator[tuple[str, str | None]]:
    """(caption, data URI) of the pictures that the cards name; no URI where one is not beside its card."""
    for run in runs:
        for record in run.card.classifiers:
            if "sheet" in record:
                png = run.sheets.get(record["sheet"]["file"])
                where = f" ({run.path})" if len(runs) > 1 else ""
                yield f"{record['name']}{where}: {record['sheet']['caption']}", None if png is None else _data_uri(png)


def card_text(run: Run) -> str:
    """The card as JSON, but for the metrics, which the table shows."""
    content = {name: value for name, value in asdict(run.card).items() if name != "metrics"}
    return json.dumps(content, indent=1, ensure_ascii=False)


def _thumbnails(
    one: Measurement,
    name: str,
    indices: NDArray[np.int64],
    scores: NDArray[np.float64],
    wrong: NDArray[np.bool_],
) -> Thumbnails:
    pictures = one.run.pictures.get((one.classifier, name))
    places = {int(index): place for place, index in enumerate(pictures.indices)} if pictures else {}
    missing = [int(index) for index in indices if int(index) not in places]
    if missing:
        raise OodbenchError(
            f"the pictures beside {one.run.path} lack image {missing[0]} of {name}, which {one.detector} got most "
            f"wrong; they are of another run: remove them, or run the benchmark again"
        )
    images = [Thumbnail(places[int(i)], int(i), float(scores[i]), bool(wrong[i])) for i in indices]
    return Thumbnails(name, images)


def _png(pixels: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    as_image(pixels).save(buffer, format="PNG", optimize=True)
    return _data_uri(buffer.getvalue())


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode('ascii')}"


def _template(name: str) -> str:
    return resources.files("oodbench.report").joinpath("templates", name).read_text(encoding="utf-8")
