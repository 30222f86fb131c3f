"""A tree of JPEG files as large as one asks for, from a few: to see what a run costs on many files.

    python benchmarks/imagenet_tree.py ../shared/data/imagenet_sample TREE 20000 5000

writes TREE/train/CLASS/… with 20,000 files and TREE/val/CLASS/… with 5,000, as many of one class as of another.
SOURCE has a folder a class. Each file is a picture of its class, moved by some pixels and packed anew, so that no two
are alike and each costs what such a photograph costs.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageChops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("train", type=int)
    parser.add_argument("test", type=int)
    arguments = parser.parse_args()
    classes = sorted(path for path in arguments.source.iterdir() if path.is_dir())
    for number, folder in enumerate(classes):
        pictures = [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())]
        shares = {
            "train": share(arguments.train, number, len(classes)),
            "val": share(arguments.test, number, len(classes)),
        }
        made = 0
        for split, count in shares.items():
            place = arguments.out / split / folder.name
            place.mkdir(parents=True, exist_ok=True)
            for index in range(count):
                picture = pictures[made % len(pictures)]
                moved = ImageChops.offset(picture, 1 + made // len(pictures), 0)
                moved.save(place / f"{folder.name}_{index:05}.jpg", quality=90)
                made += 1


def share(total: int, number: int, parts: int) -> int:
    """What part `number` of `parts` has of a total, so that all have it."""
    return total * (number + 1) // parts - total * number // parts


if __name__ == "__main__":
    main()
