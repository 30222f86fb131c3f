"""What the losses see of a classifier, and that gradients reach the images through it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.inversion import losses
from oodbench.inversion.live import live_features
from tests.inversion.conftest import bars


def test_features_are_the_heads_input_and_carry_gradients(bars_classifier: Classifier) -> None:
    images = bars(5, 0)[0].requires_grad_()
    with live_features(bars_classifier) as passes:
        made = passes(images)
    head = bars_classifier.module[8]
    torch.testing.assert_close(head(made.features), made.logits)
    (gradient,) = torch.autograd.grad(made.features.sum(), images)
    assert gradient.any()


def normalised_twice() -> Classifier:
    """Two layers with a BatchNorm that remembers, and one whose BatchNorm remembers nothing."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.InstanceNorm2d(3),
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.Flatten(),
        nn.BatchNorm1d(108),
        nn.Linear(108, 2),
    )
    for _ in range(3):
        module(torch.rand(20, 1, 8, 8))
    return Classifier(module, num_classes=2, image_shape=(1, 8, 8))


def test_statistics_are_the_mean_over_the_layers_that_remember_some() -> None:
    classifier = normalised_twice()
    images = torch.rand(6, 1, 8, 8).requires_grad_()
    with live_features(classifier, statistics=True) as passes:
        made = passes(images)
        inputs: list[Tensor] = []
        norms = [classifier.module[1], classifier.module[6]]
        hooks = [norm.register_forward_pre_hook(lambda _, given: inputs.append(given[0])) for norm in norms]
        passes(images)
        for hook in hooks:
            hook.remove()
    each = [
        losses.statistics(given, norm.running_mean, norm.running_var, norm.eps)
        for given, norm in zip(inputs, norms, strict=True)
    ]
    torch.testing.assert_close(made.statistics, (each[0] + each[1]) / 2)
    (gradient,) = torch.autograd.grad(made.statistics, images)
    assert gradient.abs().sum() > 0


def test_statistics_are_zero_where_none_are_remembered_no_gradient_is_asked_for_or_they_are_not_wanted() -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 2))
    with live_features(Classifier(plain, num_classes=2, image_shape=(1, 8, 8)), statistics=True) as passes:
        assert passes(torch.rand(6, 1, 8, 8)).statistics == 0
    with live_features(normalised_twice(), statistics=True) as passes, torch.no_grad():
        assert passes(torch.rand(6, 1, 8, 8)).statistics == 0
    with live_features(normalised_twice()) as passes:
        assert passes(torch.rand(6, 1, 8, 8)).statistics == 0


def test_nothing_is_left_on_the_classifier() -> None:
    classifier = normalised_twice()
    classifier.module.train()
    with live_features(classifier, statistics=True) as passes:
        assert not classifier.module.training
        passes(torch.rand(6, 1, 8, 8))
    assert classifier.module.training
    assert not any(module._forward_pre_hooks for module in classifier.module.modules())
