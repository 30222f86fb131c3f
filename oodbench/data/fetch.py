"""The data sets that can be downloaded, and `fetch`, which does it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from oodbench.data.catalogue import DATASETS
from oodbench.data.download import Progress, RemoteFile, download, say, unpack
from oodbench.errors import OodbenchError, unknown_name


@dataclass(frozen=True)
class Fetchable:
    """The files of a set, their folder under the data root, and what to know before getting them."""

    files: tuple[RemoteFile, ...]
    into: str = ""
    note: str = ""


def _idx_files(mirrors: tuple[str, ...], md5s_and_sizes: tuple[tuple[str, int], ...]) -> tuple[RemoteFile, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(
        RemoteFile(f"{name}-ubyte.gz", tuple(f"{mirror}{name}-ubyte.gz" for mirror in mirrors), f"md5:{md5}", size)
        for name, (md5, size) in zip(names, md5s_and_sizes, strict=True)
    )


def _odin_archive(name: str, key: str, md5: str) -> Fetchable:
    """An archive that the README of the ODIN authors' code (github.com/facebookresearch/odin) links to.

    They publish no checksums; these are the ones that pytorch-ood (for iSUN, other public code) goes by.
    """
    file = f"{name}.tar.gz"
    mirrors = (
        f"https://www.dropbox.com/s/{key}/{file}?dl=1",
        f"https://dl.dropboxusercontent.com/s/{key}/{file}",
    )
    return Fetchable((RemoteFile(file, mirrors, f"md5:{md5}"),))


# Where torchvision knows a set, files, checksums and folders are torchvision's, so that both can share them.
FETCHABLE: dict[str, Fetchable] = {
    "mnist": Fetchable(
        _idx_files(
            ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/"),
            (
                ("f68b3c2dcbeaaa9fbdd348bbdeb94873", 9912422),
                ("d53e105ee54ea40749a09fcbcd1e9432", 28881),
                ("9fb629c4189551a2d022fa330f9573f3", 1648877),
                ("ec29112dd5afa0611ce80d1b7f02629c", 4542),
            ),
        ),
        "MNIST/raw",
    ),
    "fashion-mnist": Fetchable(
        _idx_files(
            (
                "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
                "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
            ),
            (
                ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", 26421880),
                ("25c81989df183df01b3e8a0aad5dffbe", 29515),
                ("bef4ecab320f06d8554ea6380940ec79", 4422102),
                ("bb300cfdad3c16e7a12a480ee83cd310", 5148),
            ),
        ),
        "FashionMNIST/raw",
    ),
    "kmnist": Fetchable(
        _idx_files(
            ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
            (
                ("bdb82020997e1d708af4cf47b453dcf7", 18165135),
                ("e144d726b3acfaa3e44228e80efcd344", 29497),
                ("5c965bf0a639b31b8f53240b1b52f4d7", 3041136),
                ("7320c461ea6c1c855c0b718fb2a4b134", 5120),
            ),
        ),
        "KMNIST/raw",
    ),
    "cifar10": Fetchable(
        (
            RemoteFile(
                "cifar-10-python.tar.gz",
                ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
                "md5:c58f30108f718f92721af3b95e74349a",
                170498071,
                unpacks_to="cifar-10-batches-py",
            ),
        )
    ),
    "cifar100": Fetchable(
        (
            RemoteFile(
                "cifar-100-python.tar.gz",
                ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
                "md5:eb9058c3a382ffc7106e4002c42a8d85",
                169001437,
                unpacks_to="cifar-100-python",
            ),
        )
    ),
    "svhn": Fetchable(
        tuple(
            RemoteFile(name, (f"http://ufldl.stanford.edu/housenumbers/{name}",), f"md5:{md5}", size)
            for name, md5, size in (
                ("train_32x32.mat", "e26dedcc434d2e4c54c9b2d4a06d8373", 182040794),
                ("test_32x32.mat", "eb5a983be6a315427106f1b164d9cef3", 64275384),
            )
        ),
        "svhn",
    ),
    "textures": Fetchable(
        (
            RemoteFile(
                "dtd-r1.0.1.tar.gz",
                (
                    "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/dtd-r1.0.1.tar.gz",
                    "https://thor.robots.ox.ac.uk/dtd/dtd-r1.0.1.tar.gz",
                ),
                "md5:fff73e5086ae6bdbea199a49dfb8a4c1",
                625239812,
                unpacks_to="dtd",
            ),
        ),
        "dtd",
    ),
    "lsun-crop": _odin_archive("LSUN", "fhtsw1m3qxlwj6h", "458a0a0ab8e5f1cb4516d7400568e460"),
    "lsun-resize": _odin_archive("LSUN_resize", "moqh2wh8696c3yl", "278b7b31c8cb7e804a1465a8ce03a2dc"),
    "isun": _odin_archive("iSUN", "ssz7qxfqae0cca5", "be77b0f2c26fda898afac5f99645ee70"),
    "tinyimagenet-crop": _odin_archive("Imagenet", "avgm2u562itwpkl", "7c0827e4246c3718a5ee076e999e52e5"),
    "tinyimagenet-resize": _odin_archive("Imagenet_resize", "kp3my3412u5k9rl", "0f9ff11d45babf2eff5fe12281d1ac31"),
}


def fetch(name: str, data_root: Path, progress: Progress | None = None) -> list[Path]:
    """Get the files of the data set `name` into their folder under `data_root`; what is there is kept.

    A broken download goes on where it stopped, also in the next call; a file gets its name only when it is
    whole and its checksum right. Archives are unpacked where the loaders need it. What is done is said on
    stderr.

    Args:
        name: a key of `FETCHABLE`.
        data_root: the folder of all data sets.
        progress: hears how far a download is; by default a bar, where stderr is a terminal.

    Returns:
        The files, and the folders unpacked from them.

    Raises:
        OodbenchError: no such set, or not fetchable; no mirror gives a file, or one cannot be written.
    """
    if name not in FETCHABLE:
        raise _not_fetchable(name, data_root)
    wanted = FETCHABLE[name]
    folder = data_root / wanted.into
    if wanted.note:
        say(f"{name}: {wanted.note}")
    paths = []
    with _shown(progress) as show:
        for file in wanted.files:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                paths.append(download(file, folder, show))
                if file.unpacks_to is not None:
                    paths.append(unpack(paths[-1], folder / file.unpacks_to))
            except OSError as error:
                raise OodbenchError(
                    f"{folder / file.name} cannot be written ({error}); make room or choose another folder"
                ) from error
    return paths


def _not_fetchable(name: str, data_root: Path) -> OodbenchError:
    if name not in DATASETS:
        return unknown_name("data set", name, FETCHABLE, "these can be fetched")
    entry = DATASETS[name]
    if entry.kind != "files":
        return OodbenchError(f"{name} is not a download ({entry.kind}); just name it in a benchmark")
    return OodbenchError(
        f"{name} cannot be fetched automatically: get it at {entry.url} and put it in {data_root}"
        + (f". {entry.note}" if entry.note else "")
    )


@contextmanager
def _shown(progress: Progress | None) -> Iterator[Progress]:
    """`progress` itself, or else a bar, or nothing where nobody would see a bar."""
    if progress is not None or not sys.stderr.isatty():
        yield progress or (lambda name, done, total: None)
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bars:
        tasks = {}

        def show(name: str, done: int, total: int | None) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, completed=done, total=total)
            bars.update(tasks[name], completed=done, total=total)

        yield show
