"""Every reader of files that strangers can hand in: how a sound file is made, and all that is done with one."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow
import torch
from PIL import Image
from pyarrow import parquet

from oodbench.benchmark import Benchmark
from oodbench.check import compare as check
from oodbench.check import load_baseline, save_baseline
from oodbench.data.folder import read_archive, read_folder
from oodbench.data.idx import read_idx
from oodbench.data.imagelist import read_list
from oodbench.data.imageset import ImageSet
from oodbench.data.npz import read_npz
from oodbench.data.parquet import read_tables, table_files
from oodbench.data.tar import read_tar
from oodbench.detectors.spec import build
from oodbench.detectors.state import load_state, save_state
from oodbench.example import Example, make_example
from oodbench.guard import Guard, load_guard
from oodbench.inversion.generator import Generator, load_generator, save_generator
from oodbench.models.checkpoint import load_checkpoint, save_checkpoint
from oodbench.plan import Machine, make_plan
from oodbench.report.comparison import Leaderboard, compare
from oodbench.report.formats import to_markdown
from oodbench.report.html import to_html
from oodbench.report.names import Names
from oodbench.report.published import with_published
from oodbench.resume import read_resume, save_resume
from oodbench.run_folder import Result
from tests.data.forms import pixels, png_bytes, write_idx, write_pngs, write_tar
from tests.data.test_tar import samples, write_shard
from tests.report.conftest import gaussian_scores, write_run
from tests.report.test_worst import run_with_pictures

IMAGES = pixels(6, 9, 9, 3)


@dataclass(frozen=True)
class Reader:
    """How a sound file is made in an empty folder, which gives its path; and what is done with one, to the end."""

    make: Callable[[Path], Path]
    use: Callable[[Path], object]


def written(name: str, content: bytes | str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
        return folder / name

    return make


def all_of(images: ImageSet) -> object:
    return images.read(0, len(images)), images.labels, images.notes


BENCHMARK = """name = "mine"
id = "digits"
ood = ["uniform", "structured"]
detectors = ["msp", "odin(norm=l2)"]
fit_limit = 300
limit = 60
seed = 3
mean = "0.5"
std = "0.25"
[parameters]
"odin.epsilon" = 0.002
[expected.uniform]
group = "far"
"""


def use_benchmark(path: Path) -> object:
    benchmark = Benchmark.load(str(path))
    return benchmark.to_toml(), benchmark.short_hash(), make_plan(benchmark, Machine(device="cpu"))


NAMES = '[detectors]\nmsp = "MSP"\n"odin(norm=l2)" = "ODIN"\n[sets]\nnear = "Näher"\n'
PUBLISHED = "id,detector,ood,source,auroc,auroc_spread\nshapes,msp,near,a paper,0.9,0.01\nshapes,odin,far,b,0.8,\n"


@cache
def board(folder: Path) -> Leaderboard:
    return compare([Result.load(folder / "run")])


def beside_a_run(name: str, content: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write_run(folder / "run", gaussian_scores({"msp": 1.0, "odin": 2.0}))
        return written(name, content)(folder)

    return make


def on_a_cpu(run: Result) -> Result:
    return replace(run, card=replace(run.card, machine={"device": "cpu"}))


def in_a_run(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        on_a_cpu(run_with_pictures(folder / "made")).save(folder / "run")
        return folder / "run" / name

    return make


def use_run(path: Path) -> object:
    run = Result.load(path.parent)
    return repr(run), run.table, to_html(compare([run])), check(run, run)


def make_baseline(folder: Path) -> Path:
    on_a_cpu(Result.load(write_run(folder / "made", gaussian_scores({"msp": 1.0})))).save(folder / "run")
    save_baseline(Result.load(folder / "run"), folder / "baseline")
    return folder / "baseline" / "card.json"


def use_baseline(path: Path) -> object:
    return check(load_baseline(path.parent), Result.load(path.parents[1] / "run"))


@cache
def example() -> Example:
    return make_example()


def make_guard(folder: Path) -> Path:
    network = example().classifier
    facts = {"name": "gratings", "content_hash": network.content_hash(), **network.facts()}
    return Guard(example().fitted(build("lc")), 0.5, 0.95, facts).save(folder / "guard.safetensors")


def make_state(folder: Path) -> Path:
    save_state(example().fitted(build("oodl")), folder / "state.safetensors")
    return folder / "state.safetensors"


def use_state(path: Path) -> object:
    return example().scores(load_state(path), example().id_images[:4])


def make_detectors_index(folder: Path) -> Path:
    run = Result.load(write_run(folder / "run", gaussian_scores({"msp": 1.0})))
    Result(run.card, run.scores, fitted={("net", "msp"): build("msp")}).save(folder / "run")
    return folder / "run" / "detectors" / "index.json"


def use_detectors(path: Path) -> object:
    run = Result.load(path.parents[1])
    return [run.guard(label, model=model) for model, label in run.fitted]


def make_generator(folder: Path) -> Path:
    save_generator(Generator(3, (1, 8, 8), width=2, noise_size=3), folder / "generator.safetensors")
    return folder / "generator.safetensors"


def make_checkpoint(folder: Path) -> Path:
    save_checkpoint(example().classifier, "cnn8", folder / "net.safetensors", {"id": "gratings", "accuracy": 0.9})
    return folder / "net.safetensors"


def make_torch_file(folder: Path) -> Path:
    torch.save({"state_dict": example().classifier.module.state_dict(), "epoch": 3}, folder / "net.pt")
    return folder / "net.pt"


def make_resume(folder: Path) -> Path:
    save_resume(folder / "net.resume", {"identity": "mine", "module": {"weight": torch.zeros(3)}, "epoch": 2})
    return folder / "net.resume"


def make_idx(name: str, packed: bool = False) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write_idx(folder, packed)
        return folder / name

    return make


def make_list(folder: Path) -> Path:
    write_pngs(folder, IMAGES)
    return written("list.txt", "".join(f"{index:04d}.png {index % 3}\n" for index in range(len(IMAGES))))(folder)


def make_parquet(folder: Path) -> Path:
    rows = pyarrow.table({"image": [png_bytes(one) for one in IMAGES], "label": [*range(len(IMAGES))]})
    parquet.write_table(rows, folder / "some.parquet", row_group_size=4)
    return folder / "some.parquet"


def make_arrow(folder: Path) -> Path:
    rows = pyarrow.table({"image": [png_bytes(one) for one in IMAGES], "label": [*range(len(IMAGES))]})
    with pyarrow.ipc.new_stream(str(folder / "data.arrow"), rows.schema) as stream:
        stream.write_table(rows)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}], "_split": "train"}')
    return folder / "data.arrow"


def use_tables(path: Path) -> object:
    return [all_of(read_tables("some", files)) for files in table_files(path).values()]


def picture(form: str, **options: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        buffer = io.BytesIO()
        Image.fromarray(pixels(12, 12, 3)).save(buffer, form, **options)
        return written(f"picture.{form.lower()}", buffer.getvalue())(folder)

    return make


def arrays(name: str, **named: np.ndarray) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        np.savez(folder / name, **named)
        return folder / name

    return make


def make_npy(folder: Path) -> Path:
    np.save(folder / "some.npy", IMAGES)
    return folder / "some.npy"


def make_archive(folder: Path) -> Path:
    write_tar(folder / "some.tar.gz", "some", IMAGES)
    return folder / "some.tar.gz"


def make_tar(folder: Path) -> Path:
    return write_shard(folder / "some.tar", [*samples(range(3), "cls"), *samples(range(3, 6), "json")])


READERS = {
    "benchmark": Reader(written("mine.toml", BENCHMARK), use_benchmark),
    "names": Reader(
        beside_a_run("names.toml", NAMES), lambda path: Names.load(path).detector("odin(norm=l2,epsilon=0.1)")
    ),
    "published figures": Reader(
        beside_a_run("published.csv", PUBLISHED), lambda path: to_markdown(with_published(board(path.parent), path)[0])
    ),
    "card": Reader(in_a_run("card.json"), use_run),
    "scores": Reader(in_a_run("scores.npz"), use_run),
    "worst": Reader(in_a_run("worst.npz"), use_run),
    "baseline card": Reader(make_baseline, use_baseline),
    "detectors' index": Reader(make_detectors_index, use_detectors),
    "state": Reader(make_state, use_state),
    "guard": Reader(make_guard, lambda path: load_guard(path, example().classifier)(example().id_images[:4])),
    "generator": Reader(make_generator, load_generator),
    "checkpoint": Reader(make_checkpoint, load_checkpoint),
    "torch file": Reader(make_torch_file, load_checkpoint),
    "resume": Reader(make_resume, lambda path: read_resume(path, "mine")),
    "idx images": Reader(
        make_idx("t10k-images-idx3-ubyte"), lambda path: all_of(read_idx("mnist", path.parent, "test"))
    ),
    "idx labels": Reader(
        make_idx("t10k-labels-idx1-ubyte"), lambda path: all_of(read_idx("mnist", path.parent, "test"))
    ),
    "packed idx": Reader(
        make_idx("t10k-images-idx3-ubyte.gz", packed=True), lambda path: all_of(read_idx("mnist", path.parent, "test"))
    ),
    "image list": Reader(make_list, lambda path: all_of(read_list("some", path, []))),
    "parquet": Reader(make_parquet, use_tables),
    "arrow": Reader(make_arrow, use_tables),
    "saved data set": Reader(
        lambda folder: make_arrow(folder).with_name("state.json"), lambda path: use_tables(path.parent)
    ),
    "tar": Reader(make_tar, lambda path: all_of(read_tar("some", [path]))),
    "archive": Reader(make_archive, lambda path: all_of(read_archive("some", path))),
    "npz": Reader(arrays("some.npz", images=IMAGES, labels=np.arange(6)), lambda path: all_of(read_npz("some", path))),
    "npy": Reader(make_npy, lambda path: all_of(read_npz("some", path))),
    **{
        f"{form} picture": Reader(picture(form, **options), lambda path: all_of(read_folder("some", path.parent)))
        for form, options in {
            "PNG": {},
            "JPEG": {},
            "BMP": {},
            "PPM": {},
            "TIFF": {"compression": "tiff_lzw"},
            "WEBP": {},
        }.items()
    },
}
"""By what is read."""
