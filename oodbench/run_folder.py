"""The run folder: what a run gave, with the one writer and the one reader of it.

Card and scores make a run; the tables, the pictures and the fitted detectors beside them may be missing. A baseline is
such a folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from oodbench.card import Card
from oodbench.card_fields import GUARDED, NAMES, table, wrong
from oodbench.data.npz import DAMAGES, array_form
from oodbench.detectors.catalogue import in_force
from oodbench.errors import OodbenchError, unknown_name
from oodbench.files import atomic_write, check_writable, is_bomb, safe_name, write_whole
from oodbench.report.sheets import SHEETS_FOLDER
from oodbench.report.worst import WORST_FILE, Pictures, shrunk

if TYPE_CHECKING:
    import pandas as pd

    from oodbench.detectors.base import Detector
    from oodbench.guard import Guard
    from oodbench.report.comparison import Leaderboard

CARD_FILE = "card.json"
SCORES_FILE = "scores.npz"
DETECTORS_INDEX = Path("detectors", "index.json")
"""File → (model, detector), of those beside it."""

CLASSIFIER_FACTS = (
    "name", "content_hash", "num_classes", "image_shape", "mean", "std", "preprocess", "head", "layers"
)  # fmt: skip
"""What a guard knows of the classifier that it belongs to."""

Scores = dict[tuple[str, str, str], np.ndarray]
"""(model, detector, set) → float64 scores in the set's order."""


@dataclass(frozen=True, eq=False)
class Result:
    """What a run gave."""

    card: Card
    scores: Scores
    pictures: Mapping[tuple[str, str], Pictures] = field(default_factory=dict)
    """(model, set) → the images that some detector got most wrong, as the classifier takes them."""
    sheets: Mapping[str, bytes] = field(default_factory=dict)
    """File, as the card names it, → PNG: the pictures that the trainings of classifiers left."""
    fitted: Mapping[tuple[str, str], Detector] = field(default_factory=dict)
    """(model, detector) → the fitted detector; of a run that was loaded, each is read when it is asked for."""
    path: Path = Path(CARD_FILE)
    """Of the card that it was loaded from; as if from the current folder where it was not."""

    @cached_property
    def leaderboard(self) -> Leaderboard:
        """As `oodbench report --apart` makes it of this run alone."""
        from oodbench.report.comparison import compare

        return compare([self], apart=True)

    @property
    def table(self) -> pd.DataFrame:
        """One row per model, detector and OOD set; metrics as fractions."""
        from oodbench.report.formats import COLUMNS, to_frame

        frame = to_frame(self.leaderboard)
        return frame[[*COLUMNS, *frame.columns.intersection(["partial"])]]

    def guard(self, detector: str, *, model: str | int | None = None, id_recall: float = 0.95) -> Guard:
        """A fitted detector with the threshold that keeps a share of the ID test images, for use in production.

        Args:
            detector: its label, as tables have it, or by an alias.
            model: the classifier, where several were run: as tables call it, by its own name, by the stem of its file
                or by its number in the tables' order, from 0.

        Raises:
            OodbenchError: there is no such detector or model, or several that are called so.
        """
        from oodbench.guard import Guard, threshold_at

        detector = in_force(detector)
        models = [of for of, label in self.fitted if label == detector]
        if not models:
            raise unknown_name("fitted detector", detector, {label for _, label in self.fitted})
        name = self._model(model, models, detector)
        # The detector may have a classifier of its own.
        read = self.card.own_classifiers(name).get(detector) or self.card.classifier(name)
        facts = {key: read[key] for key in CLASSIFIER_FACTS if key in read}
        if lacking := [*wrong(facts, GUARDED, "")]:
            raise OodbenchError(f"{self.path} does not tell {name} well enough ({lacking[0]}); run the benchmark again")
        scores = self.scores.get((name, detector, self.card.metrics[0]["id"]))
        if scores is None:
            raise OodbenchError(f"{self.path} has no ID scores of {detector} on {name}; run the benchmark again")
        threshold = threshold_at(scores, id_recall)
        return Guard(self.fitted[name, detector], threshold, id_recall, facts)

    def _model(self, asked: str | int | None, models: Sequence[str], detector: str) -> str:
        """The one of the models that is meant; OodbenchError, with all there are, where none or several are."""
        from oodbench.report.runs import architecture, file_stems

        stems = file_stems(self)
        names = [(one, architecture(self.card, one), stems.get(one, one)) for one in models]
        exact = [one for number, one in enumerate(models) if asked in (None, one, number)]
        found = exact or [own[0] for own in names if asked in own]
        if len(found) == 1:
            return found[0]
        what = "several models" if found else "no model"
        called = "" if asked is None else f" called {asked!r}"
        there = "; ".join(f"{number}: {' or '.join(dict.fromkeys(own))}" for number, own in enumerate(names))
        raise OodbenchError(
            f"{detector} was fitted on {what}{called}; say with model= which is meant, by a name that it alone has or "
            f"by its number: {there}"
        )

    def __repr__(self) -> str:
        rows = self.card.metrics
        ids, detectors, sets = (list(dict.fromkeys(row[name] for row in rows)) for name in ("id", "detector", "ood"))
        counted = f"{len(detectors)} × detectors on {len(sets)} × OOD sets"
        lines = [f"Result of {self.card.benchmark['name']}: {', '.join(ids)} as ID, {counted}"]
        for model in dict.fromkeys(row["model"] for row in rows):
            accuracy = self.card.classifier(model)["id_accuracy"]
            told = "unknown" if accuracy is None else f"{100 * accuracy:.2f} %"
            of_model = [(row["detector"], row["auroc"]) for row in rows if row["model"] == model and "auroc" in row]
            means = {one: np.mean([auroc for of, auroc in of_model if of == one]) for one, _ in of_model}
            best = max(means, key=lambda one: means[one], default=None)
            highest = "no AUROC" if best is None else f"highest mean AUROC {100 * means[best]:.1f} % by {best}"
            lines.append(f"  {model}: ID accuracy {told}, {highest}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from oodbench.report.html import summaries

        return summaries(self.leaderboard)

    def save(self, folder: Path) -> list[Path]:
        """Write scores, pictures, detectors, tables and, last, the card; a folder without it is no finished run.

        Each file appears whole or not at all. Those of an earlier run in the folder are replaced.

        Returns:
            The paths that were written.
        """
        from oodbench.report.formats import csv_of, to_markdown

        folder = Path(folder)
        check_folder(folder)
        # Before its other files are replaced, so that no card ever lies beside the scores of another run.
        (folder / CARD_FILE).unlink(missing_ok=True)
        return [
            save_arrays(self.scores, folder / SCORES_FILE),
            *_save_pictures(self.pictures, folder / WORST_FILE),
            *(write_whole(folder / SHEETS_FOLDER / Path(file).name, png) for file, png in self.sheets.items()),
            *_save_fitted(self.fitted, folder),
            write_whole(folder / "leaderboard.csv", csv_of(self.table)),
            write_whole(folder / "leaderboard.md", to_markdown(self.leaderboard)),
            self.card.save(folder / CARD_FILE),
        ]

    @classmethod
    def load(cls, path: Path) -> Result:
        """Read a run from its folder, or from its card with the other files beside it; imports no torch.

        Raises:
            OodbenchError: card or scores are missing, or a file is not what `save` wrote.
        """
        path = Path(path)
        card_path = path / CARD_FILE if path.is_dir() else path
        folder = card_path.parent
        for needed in (card_path, folder / SCORES_FILE):
            if not needed.is_file():
                raise OodbenchError(f"there is no {needed}; give the folder of a run, which has a card and its scores")
        with _reading(card_path):
            card = _in_force(Card.load(card_path))
        stored = load_arrays(folder / SCORES_FILE)
        for key, found in stored.items():
            if found.dtype != np.float64 or found.ndim != 1 or not len(found):
                raise OodbenchError(
                    f"{folder / SCORES_FILE} is damaged (what it holds of {'/'.join(key)} is no list of scores, but "
                    f"{found.dtype} of shape {found.shape}); run the benchmark again"
                )
        scores = {(model, in_force(label), name): found for (model, label, name), found in stored.items()}
        return cls(
            card, scores, _load_pictures(folder / WORST_FILE), _load_sheets(card, folder), _Stored(folder), card_path
        )


def check_folder(folder: Path) -> None:
    """Raise OodbenchError if a run cannot be saved in a folder: see `files.check_writable`."""
    check_writable(folder)
    for name in (CARD_FILE, SCORES_FILE, WORST_FILE, "leaderboard.csv", "leaderboard.md"):
        if (folder / name).is_dir():
            raise OodbenchError(f"{folder / name} is a folder, where a run writes a file; move it, or choose --out")


def check_replaced(folder: Path, benchmark: Mapping[str, Any]) -> str:
    """What a run of this benchmark would replace in a folder, in words; nothing where no run is there.

    Raises:
        OodbenchError: the run in the folder is of another benchmark, or its card cannot be read.
    """
    path = folder / CARD_FILE
    if not path.is_file():
        return ""
    otherwise = "choose another folder with --out, or replace what is there with --force"
    try:
        there = Card.load(path)
    except OodbenchError as error:
        raise OodbenchError(f"{folder} holds something that is no run ({error}); {otherwise}") from error
    # Which sets were missing is found out on the way, and the default detectors are named.
    benchmark = json.loads(json.dumps(benchmark))  # as a card holds it
    apart = {"missing", "name", *(["detectors"] if benchmark["detectors"] is None else [])}
    differing = sorted(
        key
        for key in (benchmark.keys() | there.benchmark.keys()) - apart
        if benchmark.get(key) != there.benchmark.get(key)
    )
    if differing:
        raise OodbenchError(
            f"{folder} holds the run of another benchmark, of {there.created} (it differs in {', '.join(differing)}); "
            f"{otherwise}"
        )
    return f"the run of {there.created} in {folder} is replaced"


def _in_force(card: Card) -> Card:
    """The card with the names that its detectors have today."""

    def timed(seconds: Mapping[str, float]) -> dict[str, float]:
        parted = {key: key.partition(" ") for key in seconds}
        return {f"{what}{space}{in_force(label)}": seconds[key] for key, (what, space, label) in parted.items()}

    def of(record: dict[str, Any]) -> dict[str, Any]:
        named: dict[str, Any] = {key: in_force(record[key]) for key in ("label", "detector") if key in record}
        if "detectors" in record:
            named["detectors"] = [*map(in_force, record["detectors"])]
        return record | named | ({"seconds": timed(record["seconds"])} if "seconds" in record else {})

    return replace(
        card,
        classifiers=[*map(of, card.classifiers)],
        detectors=[of(one) | ({"name": in_force(one["name"])} if "name" in one else {}) for one in card.detectors],
        metrics=[*map(of, card.metrics)],
    )


def save_arrays(arrays: Mapping[tuple[str, str, str], np.ndarray], path: Path) -> Path:
    """Write arrays as npz, whole or not at all, each named by the parts of its key with / between them."""
    named: dict[str, Any] = {"/".join(map(_escaped, key)): values for key, values in arrays.items()}
    with atomic_write(path) as temporary:
        np.savez_compressed(temporary, **named)
    return path


def load_arrays(path: Path) -> dict[tuple[str, str, str], np.ndarray]:
    """Read what `save_arrays` wrote.

    Raises:
        OodbenchError: the file is damaged or something else.
    """
    with _reading(path), np.load(path, allow_pickle=False) as stored:
        forms = [array_form(stored, name) for name in stored.files]
        unpacked = sum(math.prod(shape) * dtype.itemsize for shape, dtype in forms)
        if is_bomb(unpacked, path.stat().st_size):
            raise ValueError(f"it would unpack to {unpacked:,} bytes")
        return {_key(name): stored[name] for name in stored.files}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGES as error:
        raise OodbenchError(f"{path} is damaged ({error}); run the benchmark again") from error


def _escaped(part: str) -> str:
    return part.replace("%", "%25").replace("/", "%2F")


def _key(name: str) -> tuple[str, str, str]:
    # From the right, since in older files a model's name may have a / in it.
    first, second, third = (part.replace("%2F", "/").replace("%25", "%") for part in name.rsplit("/", 2))
    return first, second, third


def _save_pictures(pictures: Mapping[tuple[str, str], Pictures], path: Path) -> list[Path]:
    arrays: dict[tuple[str, str, str], np.ndarray] = {}
    for key, of_set in pictures.items():
        kept = of_set._replace(pixels=shrunk(of_set.pixels))._asdict()
        arrays |= {(*key, what): values for what, values in kept.items() if values is not None}
    if arrays:
        return [save_arrays(arrays, path)]
    path.unlink(missing_ok=True)
    return []


def _load_pictures(path: Path) -> dict[tuple[str, str], Pictures]:
    arrays = load_arrays(path) if path.is_file() else {}
    with _reading(path):
        keys = [key[:2] for key in arrays if key[2] == "indices"]
        pictures = {
            key: Pictures(
                arrays[*key, "indices"],
                arrays[*key, "pixels"],
                *(arrays.get((*key, what)) for what in Pictures._fields[2:]),
            )
            for key in keys
        }
        for indices, pixels, *_ in pictures.values():
            if indices.dtype.kind not in "iu" or indices.ndim != 1 or pixels.dtype != np.uint8 or pixels.ndim != 4:
                raise ValueError(f"it holds no pictures, but {pixels.dtype} of shape {pixels.shape}")
            if len(indices) != len(pixels) or pixels.shape[3] not in (1, 3) or 0 in pixels.shape:
                raise ValueError(f"it holds pictures of shape {pixels.shape} for {len(indices)} images")
        return pictures


def _load_sheets(card: Card, folder: Path) -> dict[str, bytes]:
    files = [record["sheet"]["file"] for record in card.classifiers if "sheet" in record]
    # In that folder and nowhere else, whatever the card of somebody else names.
    paths = {file: folder / SHEETS_FOLDER / Path(file).name for file in files}
    return {file: path.read_bytes() for file, path in paths.items() if path.is_file()}


def _save_fitted(fitted: Mapping[tuple[str, str], Detector], folder: Path) -> list[Path]:
    index_path = folder / DETECTORS_INDEX
    if not fitted:
        index_path.unlink(missing_ok=True)
        return []
    from oodbench.detectors.state import save_state

    index = {}
    for number, ((model, label), detector) in enumerate(fitted.items()):
        # Numbered, as two names may become one, and cut, as file systems want it.
        name = f"{number:03}-{safe_name(f'{model}-{label}')}.safetensors"
        save_state(detector, index_path.with_name(name))
        index[name] = [model, label]
    write_whole(index_path, json.dumps(index, indent=1, ensure_ascii=False) + "\n")
    return [*map(index_path.with_name, index), index_path]


class _Stored(Mapping[tuple[str, str], "Detector"]):
    """The fitted detectors in a run's folder, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        index = folder / DETECTORS_INDEX
        self._paths: dict[tuple[str, str], Path] = {}
        with _reading(index):
            files = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
            if not table(NAMES).holds(files):
                raise ValueError("it is no table of files, each with its classifier and detector")
            for name, (model, label) in files.items():
                self._paths[model, in_force(label)] = index.with_name(Path(name).name)

    def __getitem__(self, key: tuple[str, str]) -> Detector:
        from oodbench.detectors.state import load_state

        return load_state(self._paths[key])

    # A Mapping's own would read it.
    def __contains__(self, key: object) -> bool:
        return key in self._paths

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)
