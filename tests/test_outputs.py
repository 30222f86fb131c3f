"""Needs and stored outputs: names, joining, selecting, editing without a pass; and their errors."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from oodbench.errors import OodbenchError
from oodbench.outputs import PENULTIMATE, FitData, Head, Needs, Outputs

NAMES = (
    "logits",
    "features",
    "images",
    "head",
    "gradient",
    "live",
    "labels",
    "layer:a",
    "layer:*",
    "maps:a",
    "maps:last",
    "proxy:pixel-shuffled",
    "validation-proxy:pixel-shuffled",
)
STORED = {"logits", "features", "layer:a", "layer:*"}
LIVE = {"images", "gradient", "live", "maps:a", "maps:last"}

DRAW = torch.Generator().manual_seed(0)
HEAD = Head(torch.randn(3, 4, generator=DRAW).double(), torch.randn(3, generator=DRAW).double())
FEATURES = torch.randn(5, 4, generator=DRAW)


def outputs(**more: Tensor) -> Outputs:
    tensors = {"logits": HEAD(FEATURES).float(), "features": FEATURES, **more}
    return Outputs(tensors | {"layer:a": FEATURES[:, :2], f"layer:{PENULTIMATE}": FEATURES}, HEAD)


def clamped(values: Tensor) -> Tensor:
    return values.clamp(max=0.3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("feature", r"no quantity 'feature'; did you mean features"),
        ("layers:a", r"no quantity 'layers:a'; did you mean layer:NAME"),
        ("layer", "no quantity 'layer'"),
        ("layer:", "no quantity 'layer:'"),
        ("map:a", "did you mean maps:NAME"),
        ("", "no quantity ''; there are: .*gradient.*head.*images.*labels.*layer:NAME"),
        ("logits:a", "no quantity 'logits:a'"),
    ],
)
def test_an_unknown_quantity_is_refused_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(OodbenchError, match=message):
        Needs("logits", name)


@given(first=st.sets(st.sampled_from(NAMES)), second=st.sets(st.sampled_from(NAMES)))
def test_needs_join_as_sets_and_know_what_is_stored_and_what_is_live(first: set[str], second: set[str]) -> None:
    both = Needs(*first) | Needs(*second)
    assert type(both) is Needs and both == first | second
    for copied in (copy.deepcopy(both), pickle.loads(pickle.dumps(both))):
        assert type(copied) is Needs and copied == both
    assert Needs(*first) | Needs() == Needs(*first) and hash(Needs(*first)) == hash(Needs(*sorted(first)))
    assert type(both.stored) is Needs and both.stored == both & STORED
    assert both.live == bool(both & LIVE)


def test_needs_with_a_prefix_are_asked_for_by_their_names() -> None:
    needs = Needs("logits", "layer:a", "layer:b.c", "proxy:p", "validation-proxy:q", "maps:last")
    assert needs.named("layer") == {"a", "b.c"} and needs.named("maps") == {"last"}
    assert needs.named("proxy") == {"p"} and needs.named("validation-proxy") == {"q"}
    assert Needs("logits").named("layer") == frozenset()
    assert Needs("layer:a:b").named("layer") == {"a:b"}


def test_quantities_are_tensors_by_name() -> None:
    images, maps = torch.rand(5, 3, 2, 2), torch.rand(5, 2, 2, 2)
    held = outputs(images=images, **{"maps:last": maps, "maps:a": maps + 1})
    assert len(held) == 5 and len(Outputs({})) == 0
    for found, name in (
        (held.logits, "logits"),
        (held.features, "features"),
        (held.images, "images"),
        (held.layer("a"), "layer:a"),
        (held.maps(), "maps:last"),
        (held.maps("a"), "maps:a"),
    ):
        assert found is held.tensors()[name] is held.tensor(name)
    assert held.layer_names == ("a", PENULTIMATE) and held.map_names == ("last", "a")
    with pytest.raises(TypeError):
        held.tensors()["logits"] = images  # type: ignore[index]


@pytest.mark.parametrize(
    ("ask", "name"),
    [
        (lambda held: held.features, "features"),
        (lambda held: held.images, "images"),
        (lambda held: held.layer("stem"), "layer:stem"),
        (lambda held: held.maps(), "maps:last"),
        (lambda held: held.tensor("live"), "live"),
    ],
)
def test_what_was_not_captured_is_said_with_what_was(ask: Callable[[Outputs], Any], name: str) -> None:
    with pytest.raises(OodbenchError, match=f"{name} was not captured, but logits; the detector must declare it"):
        ask(Outputs({"logits": torch.zeros(2, 3)}))


def test_the_head_gives_the_logits_in_float64_and_its_absence_is_said() -> None:
    expected = torch.nn.functional.linear(FEATURES.double(), HEAD.weight, HEAD.bias)
    assert torch.equal(outputs().head(FEATURES), expected) and expected.dtype == torch.float64
    for ask in (lambda held: held.head, lambda held: held.edited({"features": clamped})):
        with pytest.raises(OodbenchError, match=r"last step is not a linear layer.*Classifier\(module, head="):
            ask(Outputs({"features": FEATURES}))


def test_stored_keeps_what_is_small() -> None:
    stored = outputs(images=torch.rand(5, 3, 2, 2), **{"maps:last": torch.rand(5, 2, 2, 2)}).stored()
    assert type(stored) is Outputs and stored.tensors().keys() == outputs().tensors().keys()
    assert stored.head is HEAD and stored.features is FEATURES


def test_only_what_is_read_is_left_and_the_head() -> None:
    names = ("logits", "features", "layer:a", "layer:b", "maps:a")
    given = Outputs({name: torch.zeros(2, 3) for name in names}, Head(torch.zeros(1, 3), torch.zeros(1)))
    for needs, left in (
        (Needs("logits", "labels"), {"logits"}),
        (Needs("layer:*", "features"), {"features", "layer:a", "layer:b"}),
        (Needs("layer:b", "maps:*"), {"layer:b", "maps:a"}),
        (Needs(), set()),
    ):
        found = given.only(needs)
        assert found.tensors().keys() == left
        assert found.head is given.head
        assert all(found.tensor(name) is given.tensor(name) for name in left)


def test_replacing_replaces_what_is_named_and_nothing_else() -> None:
    held = outputs()
    replaced = held.replaced(logits=torch.zeros(5, 3), extra=torch.ones(5))
    assert not replaced.logits.any() and replaced.tensor("extra").all()
    assert replaced.features is held.features and replaced.head is HEAD
    assert held.logits.any() and "extra" not in held.tensors()


def test_edited_features_carry_their_logits_and_their_layer_along() -> None:
    held = outputs()
    edited = held.edited({"features": clamped})
    assert torch.equal(edited.features, FEATURES.clamp(max=0.3)) and (FEATURES > 0.3).any()
    assert torch.equal(edited.layer(PENULTIMATE), edited.features)
    assert torch.equal(edited.logits, FEATURES.clamp(max=0.3).double() @ HEAD.weight.T + HEAD.bias)
    assert edited.layer("a") is held.layer("a"), "what comes earlier in the network stays"
    assert held.features is FEATURES, "and the outputs themselves do too"
    without = Outputs({"features": FEATURES}, HEAD).edited({"features": clamped})
    assert set(without.tensors()) == {"features", "logits"}


def test_edits_of_features_are_composed() -> None:
    twice = outputs().edited({"features": clamped}).edited({"features": torch.Tensor.neg})
    assert torch.equal(twice.features, -clamped(FEATURES))
    torch.testing.assert_close(twice.logits, HEAD(-clamped(FEATURES)))


def test_another_head_is_what_is_read_from_then_on() -> None:
    doubled = outputs().edited({"head": lambda head: Head(2 * head.weight, head.bias)})
    assert torch.equal(doubled.logits, 2 * FEATURES.double() @ HEAD.weight.T + HEAD.bias)
    assert torch.equal(doubled.head.weight, 2 * HEAD.weight) and doubled.features is FEATURES
    both = doubled.edited({"features": clamped})
    assert torch.equal(both.logits, doubled.head(clamped(FEATURES)))


@pytest.mark.parametrize("changes", [{"maps:last": clamped}, {"features": clamped, "maps:a": clamped}])
def test_other_edits_take_a_live_batch(changes: dict[str, Any]) -> None:
    with pytest.raises(OodbenchError, match=r"stored.*live batches only"):
        outputs().edited(changes)


def test_stored_outputs_say_that_they_are_stored() -> None:
    stored = outputs()
    assert stored.perturbed(1000.0, 0.0) is stored
    for ask, what in (
        (lambda: stored.perturbed(1000.0, 0.1), "perturbed outputs"),
        (lambda: stored.input_gradient(1.0), "the input gradient"),
        (lambda: stored.gradient(lambda held: held.logits[:, 0]), "a gradient"),
        (lambda: stored.forward(), "a further pass"),
        (lambda: stored.forward(dropout=1), "a further pass"),
    ):
        with pytest.raises(OodbenchError, match=f"stored: {what} exists on live batches only; .* live or gradient"):
            ask()


def test_concatenate_select_and_len() -> None:
    parts = [outputs().select(slice(0, 2)), outputs().select(slice(2, None))]
    joined = Outputs.concatenate(iter(parts))
    assert [len(part) for part in parts] == [2, 3] and len(joined) == 5 and joined.head is HEAD
    for name, tensor in outputs().tensors().items():
        assert torch.equal(joined.tensors()[name], tensor)
    chosen = joined.select(torch.tensor([3, 1]))
    for name, tensor in joined.tensors().items():
        assert torch.equal(chosen.tensors()[name], tensor[[3, 1]])
    assert chosen.layer_names == joined.layer_names and chosen.head is HEAD


def test_concatenate_refuses_nothing_and_unlike_parts() -> None:
    with pytest.raises(OodbenchError, match="empty"):
        Outputs.concatenate([])
    parts = [outputs(images=torch.zeros(5, 3, 2, 2)), outputs()]
    for unlike in (parts, parts[::-1]):
        with pytest.raises(OodbenchError, match=r"images.* cannot be joined|cannot be joined .*images"):
            Outputs.concatenate(unlike)


def test_moving_takes_the_head_along() -> None:
    moved = outputs().to("meta")
    assert {tensor.device.type for tensor in (*moved.tensors().values(), *moved.head)} == {"meta"}
    assert Outputs({"logits": torch.zeros(1, 2)}).to("meta").logits.device.type == "meta"


def test_fit_data_is_edited_throughout() -> None:
    labels, reduced = torch.arange(5), {"own": torch.ones(5)}
    data = FitData(outputs(), labels, {"p": outputs()}, {"v": outputs()}, reduced)
    edited = data.edited({"features": clamped})
    for one in (edited.outputs, edited.proxies["p"], edited.validation["v"]):
        assert torch.equal(one.features, clamped(FEATURES))
        torch.testing.assert_close(one.logits, HEAD(clamped(FEATURES)))
    assert edited.labels is labels and edited.reduced is reduced
    assert data.outputs.features is data.proxies["p"].features is data.validation["v"].features is FEATURES
    assert FitData(outputs()).edited({"features": clamped}).proxies == {}
