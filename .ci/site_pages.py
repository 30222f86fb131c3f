"""Of the site (mkdocs.yml): pages that stand elsewhere in the repository than in docs/, and links to its files."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]

PAGES = {
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "results-digits.md": "results/digits/leaderboard.md",
    "results.md": "results/README.md",
    "security.md": "SECURITY.md",
    "results-inversion.md": "results/inversion/README.md",
}
"""Page of the site → the file of the repository that it is."""

SITE = {source: page for page, source in PAGES.items()}

LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)#:\s]+)(?P<anchor>#[^)]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
        for link in LINK.finditer((ROOT / source).read_text(encoding="utf-8")):
            picture = _in_repository(source, link["target"])
            if picture.endswith(".png") and not files.get_file_from_path(picture):
                files.append(File.generated(config, picture, abs_src_path=str(ROOT / picture)))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **_: Any) -> str:
    """Links as they are right in the repository, changed to what they are in the site."""
    own = page.file.src_uri
    source = PAGES.get(own, f"docs/{own}")

    def changed(link: re.Match[str]) -> str:
        path = _in_repository(source, link["target"])
        there = SITE.get(path, path.removeprefix("docs/"))
        if files.get_file_from_path(there):
            target = os.path.relpath(there, PurePosixPath(own).parent).replace(os.sep, "/")
            return f"{link['image']}[{link['text']}]({target}{link['anchor'] or ''})"
        if not (ROOT / path).exists():
            return link[0]  # the strict build names it
        name = f"`{path}`"  # a file that the site has not
        return name if path.endswith(link["text"].strip("`")) else f"{link['text']} ({name})"

    return LINK.sub(changed, markdown)


def _in_repository(source: str, target: str) -> str:
    """The path from the repository's root of what a file there links to."""
    return os.path.normpath(PurePosixPath(source).parent / target).replace(os.sep, "/")
