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
from PIL import Image

from oodbench.errors import OodbenchError
from oodbench.report import glance, layout, training
from oodbench.report.comparison import Leaderboard
from oodbench.report.plots import HEIGHT, SIDE, bars, points_at_95, roc
from oodbench.report.runs import Measurement, Run
from oodbench.report.worst import Pictures, as_image, worst_images

SHOWN = 64
"""CSS pixels of the longer side of a thumbnail."""


QUALITY = 75
"""Of WebP, 0 to 100, where it may lose."""

ACROSS = 16
"""Pictures side by side in a sprite."""


@dataclass(frozen=True)
class Thumbnail:
    """One of the images that a detector got most wrong.

    Attributes:
        place: among the pictures kept of its set.
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
    rows = [row for block in leaderboard.blocks for row in block.rows.values()]
    names = {
        "ID": [row.first.id for row in rows],
        "Model": [row.first.model for row in rows],
        "Detector": [row.first.detector for row in rows],
        "Set": [row.first.ood for row in rows],
        "Group": [row.first.group for row in rows],
    }
    return pages.get_template("report.html.j2").render(
        board=leaderboard,
        layout=layout,
        glance=glance,
        metrics=layout.METRIC_TITLES,
        choices={name: list(dict.fromkeys(values)) for name, values in names.items() if len(set(values)) > 1},
        anchors={row: f"plots-{number}" for number, row in enumerate(rows)},
        side=SIDE,
        height=HEIGHT,
        bars=bars,
        roc=roc,
        worst=worst_thumbnails,
        sprites={key: number for number, key in enumerate(keys)},
        pictures=[sprite(run.pictures[key], *_class_names(run, key[1])) for run, key in keys],
        sheets=list(sheets(leaderboard.runs)),
        training=training,
        card_text=card_text,
        style=Markup(_template("report.css")),
        script=Markup(_template("report.js")),
    )


def summaries(leaderboard: Leaderboard) -> str:
    """`layout.summary` of each block as HTML tables, for a notebook."""
    return environment().get_template("summaries.html.j2").render(board=leaderboard, layout=layout)


def sprite(pictures: Pictures, classes: Sequence[str] = (), id_classes: Sequence[str] = ()) -> dict[str, Any]:
    """The pictures of a set as one image, so that the page holds each once, and what is known of each, in words.

    `source` is a data URI as CSS has it; `width` and `height` are those of a picture as shown, in CSS pixels.

    Args:
        classes: what the labels of the set are called.
        id_classes: what those of the ID set are, the classifier's answers.
    """
    count, height, width, channels = pictures.pixels.shape
    scale = SHOWN / max(height, width)
    across = min(count, ACROSS)
    together = np.zeros((-(-count // across) * across, height, width, channels), np.uint8)
    together[:count] = pictures.pixels
    grid = together.reshape(-1, across, height, width, channels).swapaxes(1, 2).reshape(-1, across * width, channels)
    made: dict[str, Any] = {
        "source": f"url({_webp(as_image(grid))})",
        "across": across,
        "rows": len(together) // across,
    }
    made |= {"width": round(width * scale), "height": round(height * scale)}
    words = {
        "labels": [_class_words(classes, label) for label in _listed(pictures.labels)],
        "answers": [_class_words(id_classes, answer, "seen as ") for answer in _listed(pictures.answers)],
        "files": _listed(pictures.files),
    }
    return made | {name: values for name, values in words.items() if any(values)}


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
                yield f"{record['name']}{where}: {record['sheet']['caption']}", None if png is None else _sheet(png)


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


def _class_names(run: Run, name: str) -> tuple[list[str], list[str]]:
    """What the classes of a set and of the ID set are called."""
    return run.card.classes(name), run.card.classes(run.card.metrics[0]["id"])


def _class_words(classes: Sequence[str], label: int, before: str = "") -> str:
    """A class's name, or its number; nothing for -1."""
    if label < 0:
        return ""
    name = (classes[label] if label < len(classes) else "") or str(label)
    return before + (f"class {name}" if name.isdecimal() else name)


def _listed(values: NDArray[Any] | None) -> list[Any]:
    return [] if values is None else values.tolist()


def _webp(image: Image.Image) -> str:
    """Grey as it is; in colour, where that takes much, with loss that is hardly seen."""
    made = io.BytesIO()
    image.save(made, format="WEBP", lossless=image.mode == "L", quality=QUALITY)
    return _data_uri(made.getvalue(), "webp")


def _data_uri(image: bytes, form: str) -> str:
    return f"data:image/{form};base64,{base64.b64encode(image).decode('ascii')}"


def _sheet(png: bytes) -> str:
    with Image.open(io.BytesIO(png)) as image:
        return _webp(image)


def _template(name: str) -> str:
    return resources.files("oodbench.report").joinpath("templates", name).read_text(encoding="utf-8")
