"""Identities: found without a pixel being read, and others whenever the pixels may be others."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from oodbench import OodbenchError
from oodbench.data import decoding
from oodbench.data import identity as identity_module
from oodbench.data.folder import read_archive, read_folder
from oodbench.data.idx import read_idx
from oodbench.data.imageset import ArraySource, GeneratedSource, ImageSet
from oodbench.data.load import load_id, load_ood
from oodbench.data.lsun import read_lmdb
from oodbench.data.noise import DERIVED, NOISE, derived_set, noise_set
from oodbench.data.npz import read_npz
from oodbench.data.photos import photos_set
from oodbench.data.structured import structured_set
from oodbench.data.torchvision_sets import read_cifar
from tests.data.forms import pixels, save_png, write_cifar, write_idx, write_lmdb, write_pngs, write_tar

GREY, COLOUR = pixels(6, 8, 8), pixels(6, 8, 8, 3)


def let_the_clock_tick() -> None:
    """File systems count time in steps of some milliseconds."""
    time.sleep(0.03)


@dataclass(frozen=True)
class Form:
    """Writes images into a folder, reads them as a set, and names the file that decides on image 2."""

    write: Callable[[Path], object]
    read: Callable[[Path], ImageSet]
    file: str


FORMS = {
    "folder": Form(lambda root: write_pngs(root, GREY), lambda root: read_folder("own", root), "0002.png"),
    "archive": Form(
        lambda root: write_tar(root / "own.tar.gz", "own", COLOUR),
        lambda root: read_archive("own", root / "own.tar.gz"),
        "own.tar.gz",
    ),
    "npz": Form(
        lambda root: np.savez(root / "own.npz", images=COLOUR),
        lambda root: read_npz("own", root / "own.npz"),
        "own.npz",
    ),
    "idx": Form(
        lambda root: write_idx(root, packed=True),
        lambda root: read_idx("mnist", root, "test"),
        "t10k-images-idx3-ubyte.gz",
    ),
    "lmdb": Form(
        lambda root: write_lmdb(root / "a", {str(number): image for number, image in enumerate(COLOUR)}),
        lambda root: read_lmdb("lsun", [root / "a"]),
        "a/data.mdb",
    ),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_files_have_the_identity_of_their_facts_and_of_what_is_chosen(form: Form, tmp_path: Path) -> None:
    form.write(tmp_path)
    images, file = form.read(tmp_path), tmp_path / form.file
    assert images.identity is not None and len(images.identity) == 64
    chosen = [images.subset(np.array(kept), "") for kept in ([0, 1, 2], [2, 1, 0], [0, 1], [0, 1, 2, 3])]
    assert len({one.identity for one in (images, *chosen)}) == 5
    assert chosen[0].identity == images.subset(np.arange(3), "another note").identity
    assert form.read(tmp_path).identity == images.identity

    facts = file.stat()
    let_the_clock_tick()
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
    touched = form.read(tmp_path).identity
    # Put back by hand, the time of the content tells nothing; that of the last change of anything does.
    let_the_clock_tick()
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert len({images.identity, touched, form.read(tmp_path).identity}) == 3


def test_other_content_of_equal_size_and_time_is_another_set(tmp_path: Path) -> None:
    path = tmp_path / "own" / "0000.bmp"
    save_png(path, GREY[0])
    save_png(tmp_path / "own" / "0001.bmp", GREY[1])
    first, facts = read_folder("own", tmp_path / "own"), path.stat()
    first_hash = first.content_hash
    let_the_clock_tick()
    save_png(path, GREY[2])
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert path.stat().st_size == facts.st_size
    second = read_folder("own", tmp_path / "own")
    assert second.identity != first.identity and second.content_hash != first_hash
    # What was not touched is what it was.
    one = np.array([1])
    assert first.subset(one, "").identity == second.subset(one, "").identity


def test_the_facts_of_a_folder_are_those_of_the_images_that_are_drawn(tmp_path: Path) -> None:
    write_pngs(tmp_path, GREY)
    images = read_folder("own", tmp_path)
    drawn = {kept: images.subset(np.array(kept), "") for kept in ((0, 1), (1, 2))}
    before = {kept: one.identity for kept, one in drawn.items()}
    os.utime(tmp_path / "0002.png", ns=(0, 0))
    again = read_folder("own", tmp_path)
    after = {kept: again.subset(np.array(kept), "").identity for kept in drawn}
    assert after[0, 1] == before[0, 1] and after[1, 2] != before[1, 2]


def test_the_code_and_the_libraries_are_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    module = tmp_path / "makes_pixels.py"
    identities = set()
    for text in ("one = 1", "one = 2"):
        module.write_text(text)
        identity_module._source_hash.cache_clear()
        identities.add(identity_module.identity_of("facts", ["makes_pixels"]))
    identities.add(identity_module.identity_of("other facts", ["makes_pixels"]))
    identities.add(identity_module.identity_of("other facts", ["makes_pixels"], ["pillow"]))
    monkeypatch.setattr(identity_module, "_version", lambda package: "99")
    identities.add(identity_module.identity_of("other facts", ["makes_pixels"], ["pillow"]))
    assert None not in identities and len(identities) == 5
    assert identity_module.identity_of("facts", ["no_such_module"]) is None


def test_files_that_are_gone_have_none_and_say_so_when_read(tmp_path: Path) -> None:
    write_pngs(tmp_path, GREY)
    images = read_folder("own", tmp_path)
    (tmp_path / "0002.png").unlink()
    assert images.identity is None
    with pytest.raises(OodbenchError, match=r"0002\.png cannot be read as an image"):
        _ = images.content_hash


def test_published_binary_forms_have_the_identity_of_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    write_cifar(folder, "cifar10", monkeypatch)
    first, second = (read_cifar("cifar10", folder, split).identity for split in ("test", "test"))
    assert first is not None and first == second != read_cifar("cifar10", folder, "fit").identity


MAKERS: dict[str, Callable[..., ImageSet]] = {
    **{name: (lambda *how, name=name: noise_set(name, *how)) for name in NOISE},
    "structured": structured_set,
    "photos": photos_set,
}


def test_generated_sets_differ_by_name_seed_count_shape_and_choice() -> None:
    forms = [(5, (1, 8, 8), 0), (6, (1, 8, 8), 0), (5, (1, 8, 8), 1), (5, (3, 8, 8), 0), (5, (1, 8, 9), 0)]
    made = [make(*form) for make in MAKERS.values() for form in forms]
    made += [made[0].subset(np.array(kept), "") for kept in ([0, 1], [1, 0], [1, 2])]
    identities = {images.identity for images in made}
    assert None not in identities and len(identities) == len(made)


def test_derived_sets_differ_by_name_seed_base_and_choice(tmp_path: Path) -> None:
    write_pngs(tmp_path, GREY)
    base = read_folder("own", tmp_path)
    part = base.subset(np.array([1, 2, 3]), "")
    made = [derived_set(name, of, seed) for name in DERIVED for of in (base, part) for seed in (0, 1)]
    made += [made[0].subset(np.array(kept), "") for kept in ([0, 1], [1, 0])]
    identities = {images.identity for images in made}
    assert None not in identities and len(identities) == len(made)
    # An image depends on its number in the base's source, however that was chosen.
    first = made[0].subset(np.array([1, 2, 3]), "")
    of_part = derived_set(next(iter(DERIVED)), part, 0)
    assert np.array_equal(first.read(0, 3), of_part.read(0, 3)) and first.identity == of_part.identity
    assert derived_set("pixel-shuffled", ImageSet("memory", ArraySource(GREY), "memory"), 0).identity is None


PRINTED = """
from oodbench.data.noise import derived_set, noise_set
from oodbench.data.photos import photos_set
from oodbench.data.structured import structured_set

noise = noise_set("blobs", 7, (3, 8, 8), 4)
derived = derived_set("pixel-shuffled", noise, 4)
for images in (noise, structured_set(7, (3, 8, 8), 4), photos_set(7, (3, 8, 8), 4), derived):
    print(images.identity)
"""


def test_another_process_finds_the_same() -> None:
    printed = [
        subprocess.run(
            [sys.executable, "-c", PRINTED],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for seed in ("1", "2")
    ]
    assert printed[0] == printed[1] and len(set(printed[0])) == 4
    assert printed[0][0] == noise_set("blobs", 7, (3, 8, 8), 4).identity


@dataclass(frozen=True)
class Whatever:
    setting: object

    def __call__(self, index: int) -> np.ndarray:
        return np.full((2, 2), index, np.uint8)


def test_what_cannot_be_told_in_full_has_none() -> None:
    assert ImageSet("memory", ArraySource(GREY), "memory").identity is None
    told = GeneratedSource(Whatever((1, "a", None)), 3).identity(range(3))
    assert told is not None and told != GeneratedSource(Whatever((1, "b", None)), 3).identity(range(3))
    # An array's repr is shortened, a lambda's and an object's hold an address.
    for setting in (np.arange(10_000), lambda: 0, object(), (1, object())):
        assert GeneratedSource(Whatever(setting), 3).identity(range(3)) is None
    assert GeneratedSource(lambda index: GREY[index], 3).identity(range(3)) is None


def test_planning_reads_one_image_of_the_test_split_and_none_to_fit_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split, count in (("train", 9), ("test", 6)):
        for index, image in enumerate(pixels(count, 8, 8, 3, seed=count)):
            save_png(tmp_path / "own" / split / "abc"[index % 3] / f"{index}.png", image)
    write_pngs(tmp_path / "other", COLOUR)
    read: list[str] = []

    def counted(file: Path, where: str) -> np.ndarray:
        read.append(where)
        return decode(file, where)

    decode = decoding.decoded
    monkeypatch.setattr(decoding, "decoded", counted)
    own = load_id(f"folder:{tmp_path / 'own'}", data_root=tmp_path, seed=0)
    for reference in (f"folder:{tmp_path / 'other'}", "pixel-shuffled", "gaussian"):
        load_ood(reference, id_set=own, shape=own.image_shape, seed=0, data_root=tmp_path)
    assert read == [str(tmp_path / "own" / "test" / "a" / "0.png")]
    assert own.fit.identity is not None and own.test.drawn(2, 0).identity is not None and len(read) == 1
