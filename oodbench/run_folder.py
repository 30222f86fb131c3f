"""The run folder: what a run gave, with the one writer and the one reader of it.

Card and scores make a run; the tables, the pictures and the fitted detectors beside them may be missing. A baseline is
such a folder.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np

from oodbench.card import Card
from oodbench.errors import OodbenchError
from oodbench.files import atomic_write, safe_name
from oodbench.report.sheets import SHEETS_FOLDER
from oodbench.report.worst import WORST_FILE, Pictures, shrunk

if TYPE_CHECKING:
    import pandas as pd

    from oodbench.detectors.base import Detector
    from oodbench.report.comparison import Leaderboard

CARD_FILE = "card.json"
SCORES_FILE = "scores.npz"
DETECTORS_INDEX = Path("detectors", "index.json")
"""File → (model, detector), of those beside it."""

Scores = dict[tuple[str, str, str], np.ndarray]
"""(model, detector, set) → float64 scores in the set's order."""

# What zipfile and numpy refuse damaged files with.
_UNREADABLE = (OSError, ValueError, TypeError, EOFError, RuntimeError, BadZipFile, zlib.error)


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

        return to_frame(self.leaderboard)[list(COLUMNS)]

    def __repr__(self) -> str:
        rows = self.card.metrics
        ids, detectors, sets = (list(dict.fromkeys(row[name] for row in rows)) for name in ("id", "detector", "ood"))
        counted = f"{len(detectors)} × detectors on {len(sets)} × OOD sets"
        lines = [f"Result of {self.card.benchmark['name']}: {', '.join(ids)} as ID, {counted}"]
        accuracies = {one["name"]: one["id_accuracy"] for one in self.card.classifiers}
        for model in dict.fromkeys(row["model"] for row in rows):
            aurocs: dict[str, list[float]] = {}
            for row in rows:
                if row["model"] == model:
                    aurocs.setdefault(row["detector"], []).append(row["auroc"])
            means = {detector: np.mean(values) for detector, values in aurocs.items()}
            best = max(means, key=lambda detector: means[detector])
            accuracy = f"ID accuracy {100 * accuracies[model]:.2f} %"
            lines.append(f"  {model}: {accuracy}, highest mean AUROC {100 * means[best]:.1f} % by {best}")
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
        from oodbench.report.formats import to_markdown

        folder = Path(folder)
        # Before its other files are replaced, so that no card ever lies beside the scores of another run.
        (folder / CARD_FILE).unlink(missing_ok=True)
        return [
            save_arrays(self.scores, folder / SCORES_FILE),
            *_save_pictures(self.pictures, folder / WORST_FILE),
            *(_write(folder / SHEETS_FOLDER / Path(file).name, png) for file, png in self.sheets.items()),
            *_save_fitted(self.fitted, folder),
            _write(folder / "leaderboard.csv", self.table.to_csv(index=False, lineterminator="\n").encode()),
            _write(folder / "leaderboard.md", to_markdown(self.leaderboard).encode()),
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
        if not card_path.is_file():
            raise OodbenchError(f"there is no {card_path}; give the folder of a run, or the card in it")
        folder = card_path.parent
        if not (folder / SCORES_FILE).is_file():
            raise OodbenchError(f"{card_path} has no {SCORES_FILE} beside it; keep both files of a run together")
        card = Card.load(card_path)
        scores = load_arrays(folder / SCORES_FILE)
        return cls(
            card, scores, _load_pictures(folder / WORST_FILE), _load_sheets(card, folder), _Stored(folder), card_path
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
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {_key(name): stored[name] for name in stored.files}
    except _UNREADABLE as error:
        raise OodbenchError(f"{path} is damaged ({error}); run the benchmark again") from error


def _escaped(part: str) -> str:
    return part.replace("%", "%25").replace("/", "%2F")


def _key(name: str) -> tuple[str, str, str]:
    # From the right, since in older files a model's name may have a / in it.
    first, second, third = (part.replace("%2F", "/").replace("%25", "%") for part in name.rsplit("/", 2))
    return first, second, third


def _save_pictures(pictures: Mapping[tuple[str, str], Pictures], path: Path) -> list[Path]:
    arrays: dict[tuple[str, str, str], np.ndarray] = {}
    for key, (indices, pixels) in pictures.items():
        arrays |= {(*key, "indices"): indices, (*key, "pixels"): shrunk(pixels)}
    if arrays:
        return [save_arrays(arrays, path)]
    path.unlink(missing_ok=True)
    return []


def _load_pictures(path: Path) -> dict[tuple[str, str], Pictures]:
    arrays = load_arrays(path) if path.is_file() else {}
    try:
        return {
            (model, images): Pictures(indices, arrays[model, images, "pixels"])
            for (model, images, kind), indices in arrays.items()
            if kind == "indices"
        }
    except KeyError as error:
        raise OodbenchError(f"{path} has no {error}; remove it, or run the benchmark again") from error


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
        name = f"{number:03}-{safe_name(f'{model}-{label}')[:100]}.safetensors"
        save_state(detector, index_path.with_name(name))
        index[name] = [model, label]
    written = _write(index_path, (json.dumps(index, indent=1, ensure_ascii=False) + "\n").encode())
    return [*map(index_path.with_name, index), written]


class _Stored(Mapping[tuple[str, str], "Detector"]):
    """The fitted detectors in a run's folder, each read when it is asked for."""

    def __init__(self, folder: Path) -> None:
        index = folder / DETECTORS_INDEX
        self._paths: dict[tuple[str, str], Path] = {}
        try:
            files = json.loads(index.read_text(encoding="utf-8")) if index.is_file() else {}
            for name, (model, label) in files.items():
                self._paths[model, label] = index.with_name(Path(name).name)
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise OodbenchError(f"{index} is damaged ({error}); run the benchmark again") from error

    def __getitem__(self, key: tuple[str, str]) -> Detector:
        path = self._paths[key]
        from oodbench.detectors.state import load_state

        return load_state(path)

    # A Mapping's own would read it.
    def __contains__(self, key: object) -> bool:
        return key in self._paths

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def _write(path: Path, content: bytes) -> Path:
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return path
