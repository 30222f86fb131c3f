"""Text as LaTeX prints it, how wide it is, and cells of a tabular."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

SEPARATION = 4
"""Points between a column and its edge (\\tabcolsep)."""

POINTS = 72.27
"""TeX's points an inch."""

_ESCAPED = {
    "\\": r"\textbackslash{}",
    **{special: f"\\{special}" for special in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    '"': "''",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    # Two of them would become a dash.
    "-": "-{}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    **{
        character: f"$\\{command}$"
        for character, command in {
            "±": "pm", "≈": "approx", "·": "cdot", "×": "times", "≤": "leq", "≥": "geq", "∞": "infty", "ℓ": "ell",
            "→": "to", "↑": "uparrow", "↓": "downarrow", "α": "alpha", "β": "beta", "γ": "gamma", "ε": "varepsilon",
            "λ": "lambda", "σ": "sigma", "τ": "tau",
        }.items()
    },
}  # fmt: skip

# Of 10-point Computer Modern; Times is narrower.
_WIDTHS = {
    **dict.fromkeys(".,:;il'", 2.8), **dict.fromkeys("() -frtsjI", 3.9), **dict.fromkeys("mw=±+&@#%MW×≈<>", 8.3),
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A figure in a cell: its text, what stands below the line, and its standing ("best", "tied" or "")."""

    text: str
    below: str = ""
    standing: str = ""

    @property
    def width(self) -> float:
        """In points; the letters of a subscript are a fifth narrower."""
        below = 0.82 * text_width(self.below) + 1 if self.below else 0
        return text_width(self.text) * (1.15 if self.standing == "best" else 1) + below

    def __str__(self) -> str:
        marked = {"best": r"\textbf{%s}", "tied": r"\underline{%s}"}.get(self.standing, "%s") % escaped(self.text)
        return marked + (f"$_{{{self.below.replace('±', chr(92) + 'pm ')}}}$" if self.below else "")


Parts = Sequence[Part]
"""A cell: one figure a metric; none where there is nothing to show."""


def escaped(text: str) -> str:
    """Text that LaTeX prints as it is, in one line, wherever it stands.

    Letters beyond Latin ones stay, for engines that have them (XeLaTeX, LuaLaTeX).
    """
    single = one_line(text)
    shown = "".join(_ESCAPED.get(character, character) for character in single)
    return re.sub(r"-\{\}(?!-)", "-", shown)


def one_line(text: str) -> str:
    """Without line ends and other control characters, so that a comment stays a comment."""
    return re.sub(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029]+", " ", text).strip()


def text_width(text: str) -> float:
    """In points, about, of 10-point text."""
    return sum(_WIDTHS.get(character, 7.5 if character.isupper() else 5.0) for character in text)


def column_form(metrics: int) -> str:
    """The columns of a tabular that one logical column with that many figures takes, parted by slashes."""
    slash = r"@{\,/\,}"
    return "c" if metrics == 1 else "r" + slash + ("c" + slash) * (metrics - 2) + "l"


def cell(parts: Parts, metrics: int) -> str:
    """The fields of that many figures."""
    return " & ".join(map(str, parts)) if parts else spanning("--", metrics)


def spanning(text: str, columns: int, form: str = "c") -> str:
    """LaTeX text over several columns."""
    return rf"\multicolumn{{{columns}}}{{{form}}}{{{text}}}" if columns > 1 or form != "c" else text
