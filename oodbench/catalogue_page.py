"""The page of all detectors, docs/detectors.md, made from the catalogue: python -m oodbench.catalogue_page."""

from __future__ import annotations

from collections.abc import Iterator

from oodbench.detectors.base import Detector
from oodbench.detectors.catalogue import DETECTORS
from oodbench.detectors.entry import FAMILIES, DetectorEntry
from oodbench.outputs import Needs
from oodbench.parameters import parameters
from oodbench.settings_page import settings_table

HEAD = """# Detectors

Made from the code by `python -m oodbench.catalogue_page`. For every detector a higher score means more in-distribution.
Formulas are in [methods.md](methods.md), differences from other libraries in [peers.md](peers.md), what was measured in
[findings.md](findings.md). How a detector's settings are given stands in [parameters.md](parameters.md).

**Reads** names what the score is computed from, **fitted on** what is learned from first; the names are explained in
[write-a-detector.md](write-a-detector.md#what-can-be-read). **Cost** is one of two:

- *stored*: computed from outputs that are kept of every image. Beside other detectors it costs no pass.
- *live*: the batch must be at hand: pixels, maps, gradients or further passes. The network is asked again for it.

Both are for the default settings; a detector that reads through another one (`react(base=odin)`) also needs what that
one needs.
"""


def catalogue_page() -> str:
    """Markdown: the detectors family by family, each with what it reads, costs and can be set."""
    return "\n".join([HEAD, *_parts()])


def _parts() -> Iterator[str]:
    for family, common in FAMILIES.items():
        members = [entry for entry in DETECTORS.values() if entry.family == family]
        if members:
            yield f"## {_sentence(family)[:-1]}\n\n{common}\n"
        for entry in members:
            yield from _section(entry, entry.load()())


def _section(entry: DetectorEntry, detector: Detector) -> Iterator[str]:
    yield f"### {entry.name}\n\n{_sentence(entry.summary)}\n"
    also = f"\n- **Also called**: {', '.join(f'`{alias}`' for alias in entry.aliases)}" if entry.aliases else ""
    fitted = f"\n- **Fitted on**: {_names(detector.fit_needs)}" if detector.learns() else ""
    own = f"\n- **Classifier**: its own, by the recipe `{detector.reads}`" if detector.reads else ""
    yield (
        f"- **Source**: {entry.paper}{also}\n- **Reads**: {_names(detector.needs)}{fitted}{own}\n"
        f"- **Cost**: {'live' if detector.needs.live else 'stored'}\n"
    )
    if parameters(type(detector)):
        yield settings_table(detector)


def _sentence(summary: str) -> str:
    return f"{summary[0].upper()}{summary[1:]}."


def _names(needs: Needs) -> str:
    return ", ".join(f"`{name}`" for name in sorted(needs)) or "nothing"


if __name__ == "__main__":
    print(catalogue_page(), end="")
