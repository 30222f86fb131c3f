"""The attack finds nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.attack.attack import attacked


@pytest.mark.slow
def test_the_attack_finds_nothing(tmp_path: Path) -> None:
    tally = attacked(tmp_path / "attack")
    assert not tally.tracebacks and not tally.hangs and not tally.lost, f"{tally}\n" + "\n".join(
        [*tally.tracebacks, *tally.hangs, *tally.lost]
    )
    assert tally.tried > 100
