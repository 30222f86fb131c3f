"""Networks as people have them: wrapped, in halves, scripted, with other outputs and heads; each taken rightly."""

from __future__ import annotations

import copy
from collections import namedtuple
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.optim.swa_utils import AveragedModel
from torchvision.models import googlenet, squeezenet1_1

from oodbench.classifier import Classifier
from oodbench.detectors.spec import build as detector
from oodbench.errors import OodbenchError
from oodbench.live import Live, passes
from oodbench.models.catalogue import build
from oodbench.outputs import PENULTIMATE, FitData, Needs

SHAPE = (3, 8, 8)
IMAGES = torch.randint(0, 256, (6, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
Outside = namedtuple("Outside", ["logits", "aux"])


def bare() -> nn.Module:
    """resnet20 of 4 classes, whose normalisation has seen data."""
    torch.manual_seed(0)
    network = build("resnet20", 4, SHAPE)
    network(torch.rand(32, *SHAPE))
    return network.eval()


def taken(module: nn.Module, **given: Any) -> Classifier:
    return Classifier(module, num_classes=4, image_shape=SHAPE, **given)


def passed(classifier: Classifier, *needs: str) -> Live:
    (live,) = passes(classifier, [IMAGES], Needs("logits", "features", "layer:*", *needs))
    return live


class Around(nn.Module):
    """A module around a network; what it does to images and to what comes out."""

    def __init__(self, net: nn.Module, after: Callable[[Tensor], Any] = lambda logits: logits) -> None:
        super().__init__()
        self.net = net
        self.after = after
        self.unused_loss_weights = nn.Parameter(torch.ones(2))

    def forward(self, images: Tensor) -> Any:
        return self.after(self.net(images))


class Norm(nn.Module):
    """Normalises by buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.full((1, 3, 1, 1), 0.5))

    def forward(self, images: Tensor) -> Tensor:
        return images - self.mean


class LearnedNorm(nn.Module):
    """Normalises by weights, so that two children have some."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.norm(images)
        return result


class UncallableAverage(nn.Module):
    """Of the form of timm's ModelEmaV2."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(network)


@pytest.mark.parametrize(
    ("wrap", "prefix"),
    [
        (lambda net: nn.Sequential(nn.Identity(), net), "1."),
        (lambda net: nn.Sequential(LearnedNorm(), net), "1."),
        (Around, "net."),
        (lambda net: Around(nn.Sequential(Norm(), Around(net))), "net.1.net."),
        (nn.DataParallel, ""),
        (AveragedModel, "module."),
        (UncallableAverage, ""),
        (lambda net: torch.compile(net, backend="eager"), ""),
    ],
    ids=["sequential", "learned norm", "attribute", "twice", "data parallel", "average", "timm's average", "compiled"],
)
def test_a_wrapped_network_is_read_as_the_bare_one(wrap: Callable[[nn.Module], nn.Module], prefix: str) -> None:
    network = bare()
    plain, wrapped = taken(network), taken(wrap(network).eval())
    assert wrapped.layers == tuple(f"{prefix}{layer}" for layer in plain.layers) and len(plain.layers) == 4
    assert wrapped.head == f"{prefix}{plain.head}"
    if prefix in ("", "net.", "module."):
        one, other = passed(plain), passed(wrapped)
        assert [*one.tensors().values()] and all(
            torch.equal(first, second)
            for first, second in zip(one.tensors().values(), other.tensors().values(), strict=True)
        )


def test_what_holds_the_head_alone_is_not_the_network() -> None:
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Sequential(nn.Dropout(), nn.Linear(180, 4)))
    assert taken(network).layers == ("0", PENULTIMATE) and taken(network).head == "2.1"


RETURNS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "dictionary": (lambda z: {"features": z.new_zeros(2), "logits": z}, "entry 'logits'"),
    "out": (lambda z: {"aux": -z, "out": z}, "entry 'out'"),
    "other key": (lambda z: {"loss": z.sum(), "scores": z}, "entry 'scores'"),
    "tuple": (lambda z: (z.mean(), z, -z), "entry 1"),
    "list": (lambda z: [z], "entry 0"),
    "object": (lambda z: SimpleNamespace(logits=z, hidden=None), r"\.logits"),
    "named tuple": (lambda z: Outside(z, -z), r"\.logits"),
}


@pytest.mark.parametrize("form", RETURNS)
def test_logits_are_found_in_what_is_returned(form: str) -> None:
    after, where = RETURNS[form]
    network = bare()
    plain, other = taken(network), taken(Around(network, after))
    assert any(where.replace("\\", "") in note for note in other.notes) and not plain.notes
    assert other.head == "net.linear"
    assert torch.equal(passed(plain).logits, passed(other).logits)
    assert torch.equal(other(IMAGES / 255), plain(IMAGES / 255))


def test_without_logits_what_is_returned_is_said() -> None:
    with pytest.raises(OodbenchError, match=r"returned a dict of \(2, 3\), int for 2 images"):
        taken(Around(bare(), lambda z: {"a": z[:, :3], "b": 1}))
    with pytest.raises(OodbenchError, match="returned NoneType"):
        taken(Around(bare(), lambda z: None))


def test_googlenets_named_tuple_of_training_is_read() -> None:
    network = googlenet(num_classes=4, init_weights=False)
    classifier = Classifier(network, num_classes=4, image_shape=(3, 64, 64))
    network.train()
    assert classifier(torch.rand(2, 3, 64, 64)).shape == (2, 4) and not isinstance(
        network(torch.rand(2, 3, 64, 64)), Tensor
    )
    assert classifier.head == "fc" and "inception5b" in classifier.layers and not classifier.notes


def linear(*after: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 4), *after)


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (linear(nn.Softmax(dim=1)), "returns probabilities: its last step is a softmax"),
        (linear(nn.LogSoftmax(dim=1)), "returns logarithms of probabilities: its last step is a log-softmax"),
        (Around(linear(), lambda z: F.softmax(z, dim=1)), "its last step is a softmax"),
        (Around(linear(), lambda z: {"out": F.log_softmax(z, dim=1)}), "its last step is a log-softmax"),
    ],
    ids=["module", "log module", "function", "log function in a dictionary"],
)
def test_probabilities_are_refused_with_the_remedy(module: nn.Module, words: str) -> None:
    head = "net.4" if isinstance(module, Around) else "4"
    with pytest.raises(OodbenchError, match=rf"{words}.*leave out that step.*head='{head}'"):
        taken(module)
    # The remedy that is named works: the logits are those before the step.
    remedied, plain = taken(module, head=head), taken(linear())
    assert torch.equal(passed(remedied).logits, passed(plain).logits)
    assert torch.equal(passed(remedied, "gradient").input_gradient(1.0), passed(plain, "gradient").input_gradient(1.0))
    energy = detector("energy").fit(FitData(passed(plain)))
    assert torch.equal(energy(passed(remedied)), energy(passed(plain)))
    assert all(not part._forward_hooks for part in module.modules())


def test_probabilities_of_no_linear_layer_are_refused_too() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = linear(), linear()

        def forward(self, images: Tensor) -> Tensor:
            return (self.a(images) + self.b(images)).softmax(dim=1)

    with pytest.raises(OodbenchError, match=r"last step is a softmax, but detectors read logits; leave out that step$"):
        taken(Two())


def test_who_means_log_probabilities_declares_it() -> None:
    module = linear(nn.LogSoftmax(dim=1))
    module.returns_log_probabilities = True  # type: ignore[assignment]
    assert taken(module).head is None


class Convolutional(nn.Module):
    """A 1×1 convolution at the end, before or after the mean over space."""

    def __init__(self, before: bool, relu: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.top = nn.Conv2d(3, 5, 3), nn.Conv2d(5, 4, 1)
        self.before, self.relu = before, relu

    def forward(self, images: Tensor) -> Tensor:
        maps = self.body(images).relu()
        maps = self.top(maps) if self.before else self.top(maps.mean(dim=(2, 3), keepdim=True))
        return (maps.relu() if self.relu else maps).mean(dim=(2, 3))


class Scaled(nn.Module):
    """Something comes after the linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()

    def forward(self, images: Tensor) -> Tensor:
        return 3 * self.inner(images)


class Wrapped(nn.Module):
    """Linear, in a module."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 4)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(F.dropout(features, training=self.training))


class Own(nn.Module):
    """A linear layer of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 5, generator=torch.Generator().manual_seed(1)))

    def forward(self, features: Tensor) -> Tensor:
        return features @ self.weight.T


class Cosine(Own):
    """Linear in normalised features: its weight is no head."""

    def forward(self, features: Tensor) -> Tensor:
        return 5 * F.normalize(features) @ F.normalize(self.weight).T


def with_head(*head: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head)


@pytest.mark.parametrize(
    ("module", "head"),
    [
        (with_head(nn.Dropout(), nn.Linear(5, 4)), "5"),
        (with_head(nn.Linear(5, 7), nn.ReLU(), nn.Dropout(), nn.Linear(7, 4, bias=False)), "7"),
        (with_head(Wrapped()), "4.linear"),
        (with_head(Own()), "4"),
        (with_head(weight_norm(nn.Linear(5, 4))), "4"),
        (with_head(torch.nn.utils.weight_norm(nn.Linear(5, 4))), "4"),
        (Convolutional(before=True), "top"),
        (Convolutional(before=False), "top"),
        (nn.Sequential(nn.Conv2d(3, 5, 8), nn.Conv2d(5, 4, 1)), "1"),
    ],
    ids=["dropout", "mlp", "wrapped", "own", "weight norm", "old weight norm", "before pooling", "after", "N×K×1×1"],
)
def test_heads_of_every_usual_form(module: nn.Module, head: str) -> None:
    classifier = taken(module)
    assert classifier.head == head and not classifier.notes
    live, found = passed(classifier), classifier.head_weights()
    assert found is not None and live.features.dim() == 2
    torch.testing.assert_close(found(live.features).float(), live.logits)
    # The same when the features are changed on their way, by the head and by a pass.
    needs = Needs("logits", "features", "gradient")
    for batch in passes(classifier, [IMAGES], needs):
        halved = batch.edited({"features": lambda features: features / 2})
        torch.testing.assert_close(halved.logits.float(), found(live.features / 2).float())
        by_pass = batch._capture.forward(IMAGES / 255, {"features": lambda features: features / 2}).logits
        torch.testing.assert_close(by_pass, halved.logits.float())
        gradient = batch.gradient(lambda outputs: outputs.logits[:, 0], wrt="features")
        torch.testing.assert_close(gradient.double(), found.weight[0].expand(len(IMAGES), -1))


@pytest.mark.parametrize(
    ("module", "head"),
    [(Scaled(), None), (with_head(Cosine()), "4"), (Convolutional(before=True, relu=True), "top")],
    ids=["scaled", "cosine", "relu after a convolution"],
)
def test_what_is_not_linear_has_no_head_weights(module: nn.Module, head: str | None) -> None:
    classifier = taken(module)
    assert classifier.head == head and classifier.head_weights() is None and len(classifier.notes) == 1


def test_squeezenet_has_features_but_no_linear_head() -> None:
    torch.manual_seed(0)
    network = squeezenet1_1(num_classes=4)
    classifier = Classifier(network, num_classes=4, image_shape=(3, 32, 32))
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    (live,) = passes(classifier, [images], Needs("features"))
    with classifier.inference(), torch.no_grad():
        torch.testing.assert_close(live.features, network.features(images / 255).mean(dim=(2, 3)))
    assert classifier.head == "classifier.1" and "no linear function" in classifier.notes[0]
    again = Classifier(network, num_classes=4, image_shape=(3, 32, 32), head=classifier.head)
    assert (again.head, again.notes) == (classifier.head, classifier.notes)
    with pytest.raises(OodbenchError, match="not a linear layer, which this detector reads; leave the detector out"):
        _ = live.head


def test_a_head_that_is_named_is_checked() -> None:
    module = with_head(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 4))
    with pytest.raises(OodbenchError, match=r"'4' is not the head .* does not give the logits .* it is '6'"):
        taken(module, head="4")
    cosine = taken(with_head(Cosine()), head="4")
    assert cosine.head == "4" and cosine.head_weights() is None and passed(cosine).features.shape == (6, 5)
    unused = with_head(nn.Linear(5, 4))
    unused.add_module("never", nn.Identity())
    unused.forward = lambda images: nn.Sequential.forward(unused[:5], images)  # type: ignore[method-assign]
    with pytest.raises(OodbenchError, match=r"'never' is not the head .* is not called"):
        taken(unused, head="never")


class Viewing(nn.Module):
    """x.view(N, −1) after a convolution, as tutorials have it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 5, 3), nn.Linear(5 * 36, 4)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.conv(images)
        logits: Tensor = self.fc(maps.view(len(maps), -1))
        return logits


def test_a_view_after_a_convolution_runs() -> None:
    classifier = taken(Viewing())
    assert classifier.memory_format == torch.contiguous_format and taken(bare()).memory_format == torch.channels_last
    torch.testing.assert_close(passed(classifier).logits, classifier(IMAGES / 255).detach())


@pytest.mark.parametrize("forbidding", [torch.no_grad, torch.inference_mode])
def test_a_network_that_forbids_gradients_says_so_when_one_is_asked_for(forbidding: Callable[[], Any]) -> None:
    class Forbidding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = bare()

        def forward(self, images: Tensor) -> Tensor:
            with forbidding():
                logits: Tensor = self.inner(images)
            return logits

    classifier = taken(Forbidding(), name="frozen")
    assert passed(classifier).logits.shape == (6, 4)
    with pytest.raises(OodbenchError, match=r"frozen forbids gradients .* leave the detector out"):
        passed(classifier, "gradient")


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_halves_are_run_in_float32_and_stay_as_they_are(precision: torch.dtype) -> None:
    network = bare().to(precision)
    classifier = taken(network)
    expected = taken(copy.deepcopy(network).float())
    assert str(precision).removeprefix("torch.") in classifier.notes[0] and "float32" in classifier.notes[0]
    assert torch.equal(passed(classifier).logits, passed(expected).logits)
    assert {weights.dtype for weights in network.parameters()} == {precision}
    assert torch.count_nonzero(passed(classifier, "gradient").input_gradient(1000.0)) > 0


def test_doubles_are_run_in_float64() -> None:
    live = passed(taken(bare().double()))
    assert live.logits.dtype == live.features.dtype == torch.float64


def test_weights_that_are_nan_are_named() -> None:
    network = bare()
    network.get_parameter("layer1.0.conv1.weight").data[0, 0, 0, 0] = float("nan")
    with pytest.raises(
        OodbenchError, match=r"NaN or infinite, in 1 of its tensors \(first: layer1\.0\.conv1\.weight\)"
    ):
        taken(network)


@pytest.mark.parametrize("make", [torch.jit.script, lambda net: torch.jit.trace(net, torch.rand(2, *SHAPE))])
def test_a_script_module_gives_logits_and_what_it_hides_is_said(make: Callable[[nn.Module], nn.Module]) -> None:
    network = linear().eval()
    scripted = make(network)
    classifier = taken(scripted, name="scripted")
    assert classifier.head is None and not classifier.layers and "ScriptModule" in classifier.notes[0]
    (live,) = passes(classifier, [IMAGES], Needs("logits", "gradient"))
    (plain,) = passes(taken(network), [IMAGES], Needs("logits", "gradient"))
    torch.testing.assert_close(live.logits, plain.logits)
    torch.testing.assert_close(live.input_gradient(1.0), plain.input_gradient(1.0))
    with pytest.raises(OodbenchError, match="penultimate features of scripted are not known"):
        passed(classifier)


def test_a_python_head_on_a_scripted_body_is_found() -> None:
    module = nn.Sequential(torch.jit.script(with_head().eval()), nn.Linear(5, 4))
    assert (taken(module).head, taken(module).layers) == ("1", (PENULTIMATE,))
    with pytest.raises(OodbenchError, match="'0' of Sequential is a ScriptModule"):
        taken(module, layers=["0"])


def test_the_hash_of_a_script_module_is_of_its_code() -> None:
    class Plus(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.mean(dim=(2, 3))

    class Minus(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return -images.mean(dim=(2, 3))

    Minus.__name__ = Minus.__qualname__ = "Plus"
    hashes = {
        Classifier(torch.jit.script(kind()), num_classes=3, image_shape=SHAPE).content_hash() for kind in (Plus, Minus)
    }
    assert len(hashes) == 2
