"""Figures: they are written whole, and show the right image at the right place."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from oodbench.inversion import pictures
from oodbench.inversion.generator import Generator
from oodbench.inversion.invert import Epoch, Inversion
from oodbench.inversion.pictures import save_ablation, save_class_grid, save_curves, save_sweeps, tiles
from oodbench.inversion.settings import LOSSES, InversionSettings


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def curves() -> pd.DataFrame:
    return pd.DataFrame({"epoch": [1, 2, 3, 4], "inversion_accuracy": [0.3, 0.6, 0.8, 0.9]})


def test_tiles_stand_row_by_row() -> None:
    images = np.arange(6, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 4, 5), dtype=np.float32)
    sheet, centres = tiles(images, 3)
    assert sheet.shape == (4 + 1 + 4, 5 + 1 + 5 + 1 + 5, 3) and centres == [1.5, 6.5]
    assert (sheet[:4, :5] == 0).all() and (sheet[:4, 12:] == 2).all() and (sheet[5:, 6:11] == 4).all()
    assert (sheet[4] == 1).all() and (sheet[:, 5] == 1).all()
    assert tiles(images[:, :1], 3)[0].shape == (9, 17)


def test_the_grid_shows_each_class_in_its_row(tmp_path: Path) -> None:
    class Grey(Generator):
        """An image of class k is k/2 everywhere."""

        def forward(self, conditions: object, noise: torch.Tensor) -> torch.Tensor:
            value = conditions.targets / 2  # type: ignore[attr-defined]
            return value[:, None, None, None].expand(-1, 3, 8, 8)

    path = tmp_path / "grid.png"
    save_class_grid(Grey(3, (3, 8, 8)), path, seed=0, per_class=4, names=["black", "grey", "white"])
    shades = picture(path)
    column = shades[:, shades.shape[1] // 2 + 20, 0]
    ordered = [value for value in column if value in (0, 127, 128)]
    assert ordered and sorted(ordered) == ordered and {0} < set(ordered)


def test_curves_are_written_as_figure_and_table(tmp_path: Path) -> None:
    terms = dict(zip(LOSSES, (0.5, 2.0, -0.1, 0.3, 0.4, 0.9, 0.2, 900.0), strict=True))
    history = tuple(Epoch(n, 3.0 / n, terms, 1 - 0.5 / n, 1.0, 0.1) for n in (1, 2, 3))
    inversion = Inversion(Generator(3, (1, 8, 8)), InversionSettings(), history)
    path = tmp_path / "folder" / "curves.png"
    save_curves(inversion, path)
    assert picture(path).shape[1] > 800
    table = pd.read_csv(path.with_suffix(".csv"))
    pd.testing.assert_frame_equal(table, inversion.curves(), check_exact=True)
    assert sorted(file.name for file in path.parent.iterdir()) == ["curves.csv", "curves.png"]


def test_the_ablation_shows_every_variant(tmp_path: Path) -> None:
    parts = [curves().assign(variant=variant, seed=seed) for variant in ("all", "no_ce", "no_kl") for seed in (0, 1)]
    joined = pd.concat(parts)
    joined.loc[joined["variant"] == "no_ce", "inversion_accuracy"] = 0.2
    path = tmp_path / "ablation.png"
    save_ablation(joined, path)
    colours = {tuple(colour) for colour in picture(path).reshape(-1, 3)}
    assert {(0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00), (0x00, 0x9E, 0x73)} <= colours


def test_a_sweep_makes_one_figure_a_parameter(tmp_path: Path) -> None:
    rows = [
        {
            "parameter": parameter,
            "value": value,
            "seed": seed,
            "final_inversion_accuracy": 0.9,
            "epochs_to_0.8": 3.0 if value != 0.0 else np.nan,
        }
        for parameter, values in {"l1": [0.0, 1e-4], "conditioning": ["vector", "one-hot"]}.items()
        for value in values
        for seed in (0, 1)
    ]
    paths = save_sweeps(pd.DataFrame(rows), tmp_path, {"l1": 0.0, "conditioning": "vector"})
    assert [path.name for path in paths] == ["sweep_l1.png", "sweep_conditioning.png"]
    for path in paths:
        assert picture(path).shape[1] > 800


def test_inversion_does_not_import_matplotlib_before_a_figure_is_drawn() -> None:
    code = "import sys, oodbench.inversion.pictures; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_pairs_stand_below_each_other_and_a_short_row_is_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[np.ndarray] = []
    monkeypatch.setattr(pictures, "save_grid", lambda images, *rest: shown.append(images))
    made = np.arange(5, dtype=np.float32).reshape(5, 1, 1, 1) / 10
    pictures.save_pairs(made, made + 0.5, tmp_path / "pairs.png", per_row=3)
    expected = [0, 0.1, 0.2, 0.5, 0.6, 0.7, 0.3, 0.4, 1, 0.8, 0.9, 1]
    assert shown[0].flatten().tolist() == pytest.approx(expected)
