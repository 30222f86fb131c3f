"""How far a run is, and the time that is left: by a clock that passes as it is told, and as a run tells it."""

from __future__ import annotations

import pytest

from oodbench.benchmark import Benchmark
from oodbench.classifier import Classifier
from oodbench.detectors import tta
from oodbench.detectors.mcd import MonteCarloDropout
from oodbench.detectors.odin import Odin
from oodbench.detectors.softmax import Msp
from oodbench.errors import OodbenchError
from oodbench.progress import At, Reporter, Whole, listening, whole
from oodbench.runner import run


class Heard(Reporter):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.places: list[At] = []
        self.ended = 0

    def at(self, at: At) -> None:
        self.places.append(at)

    def end(self) -> None:
        self.ended += 1


class Clock:
    """Time that passes as it is told."""

    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("oodbench.progress.time.monotonic", clock)
    return clock


def test_what_is_left_follows_from_what_was_measured(clock: Clock) -> None:
    heard = Heard()
    progress = Whole(heard)
    progress.expect("fit images", 100)
    progress.expect("sets", 900)
    progress.doing("passing fit images")
    assert heard.places[-1] == At("passing fit images", 0.0, None)
    with progress.step("fit images", 100):
        clock.now += 5
        progress.advance(50)  # 0.1 s a pass; 50 + 900 are left, the latter at the same speed as far as is known
        assert heard.places[-1].share == pytest.approx(0.05)
        assert heard.places[-1].left == pytest.approx(95.0)
        clock.now += 5
        progress.advance(50)
    with progress.step("sets", 100, each=3.0):
        clock.now += 60
        progress.advance(100)  # 300 passes in 60 s: 0.2 s each, of which 600 are left
    assert heard.places[-1] == At("passing fit images", pytest.approx(0.4), pytest.approx(120.0))


def test_what_is_found_done_is_done_and_no_measure(clock: Clock) -> None:
    heard = Heard()
    progress = Whole(heard)
    progress.expect("sets", 1000)
    with progress.step("sets", 500):
        clock.now += 0.01  # from the store
    assert heard.places[-1] == At("", 0.5, None)
    with progress.step("sets", 250):
        clock.now += 25
        progress.advance(250)
    assert heard.places[-1] == At("", 0.75, pytest.approx(25.0))


def test_more_than_was_known_never_passes_the_whole(clock: Clock) -> None:
    heard = Heard()
    progress = Whole(heard)
    progress.expect("sets", 10)
    with progress.step("sets", 10):
        clock.now += 1
        progress.advance(30)
    with progress.step("sets", 10):
        clock.now += 1
        progress.advance(10)
    assert all(0 <= one.share <= 1 and (one.left or 0) >= 0 for one in heard.places)
    assert heard.places[-1].share == 1


def test_a_listener_hears_the_end_however_it_comes() -> None:
    heard = Heard()
    with pytest.raises(OodbenchError), listening(heard):
        whole().doing("something")
        raise OodbenchError("broken")
    assert heard.ended == 1 and heard.places == [At("something", 0.0, None)]
    whole().doing("afterwards")
    assert len(heard.places) == 1


def test_live_detectors_cost_their_passes() -> None:
    costs = [one.passes for one in (Msp(), Odin(), Odin(epsilon=0.0), MonteCarloDropout(samples=7))]
    assert costs == [0, 3, 0, 7] and tta.TestTimeAugmentation(views=5).passes == 5


def test_a_run_tells_every_stage_and_ends_with_all_of_it(
    small_classifier: Classifier, image_files: dict[str, str]
) -> None:
    benchmark = Benchmark(
        id=image_files["id"], ood=(image_files["bright"], image_files["dark"]), detectors=("msp", "odin", "knn")
    )
    first, second = Heard(), Heard()
    run(benchmark, [small_classifier], reporter=first)
    told = list(dict.fromkeys(one.what for one in first.places))
    assert told == [
        "looking for the data and the classifiers",
        "classifier 1 of 1: small",
        "passing fit images of rot_test: small",
        *(f"fitting detector {number} of 3: {name}, small" for number, name in enumerate(("msp", "odin", "knn"), 1)),
        "passing set 1 of 3, rot_test: small",
        "passing set 2 of 3, bright: small",
        "passing set 3 of 3, dark: small",
        "working out the figures",
    ]
    shares = [one.share for one in first.places]
    assert shares == sorted(shares) and shares[-1] == pytest.approx(1.0) and first.ended == 1
    # 90 fit images; 3 detectors, 100 passes each; 81 scored images, each of 1 + 3 passes.
    after_fit = next(one for one in first.places if one.what.startswith("fitting"))
    assert after_fit.share == pytest.approx(90 / (90 + 300 + 81 * 4))
    assert first.places[-1].left == pytest.approx(0.0)
    run(benchmark, [small_classifier], reporter=second)  # from the store
    assert second.places[-1].share == pytest.approx(1.0)
