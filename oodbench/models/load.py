"""From what the user writes for a classifier to a Classifier."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.models.catalogue import MODELS, TORCHVISION, ImageShape, build, find_model
from oodbench.models.checkpoint import Checkpoint, load_checkpoint
from oodbench.models.foreign import classes_and_channels, differences, recognise, shapes, template
from oodbench.models.normalisation import Statistics, parse_normalisation


def load_classifier(
    reference: str,
    *,
    num_classes: int | None,
    image_shape: ImageShape,
    mean: str | None = None,
    std: str | None = None,
) -> Classifier:
    """The classifier of a checkpoint, with its normalisation.

    Args:
        reference: PATH, or ARCHITECTURE=PATH where the file does not say which architecture it is of; PATH#KEY for the
            weights under a key of the file, as model_ema.
        num_classes: how many classes it must tell apart; None for any number.
        image_shape: (C, H, W) of the ID images as they are stored. The checkpoint's own form goes before it;
            where a checkpoint tells only its channels, and its architecture takes any size, H and W are
            taken from here.
        mean, std: input normalisation as `parse_normalisation` reads it, for checkpoints without it.

    Raises:
        OodbenchError: the file, the architecture, the number of classes or channels, or the normalisation is
            wrong or missing; nothing is guessed.
    """
    named, path = _parts(reference)
    checkpoint = load_checkpoint(path)
    if named and checkpoint.architecture and named != checkpoint.architecture:
        raise OodbenchError(f"{path} holds a {checkpoint.architecture}, not a {named}; write only {path}")
    architecture = named or checkpoint.architecture or recognise(checkpoint.state, path)
    network, classes, form = _network(architecture, checkpoint, image_shape)
    if num_classes is not None and classes != num_classes:
        raise OodbenchError(
            f"{path} ({architecture}) tells {classes} classes apart, but the ID set has {num_classes}; "
            f"give a classifier that was trained on this ID set"
        )
    means, deviations = _normalisation(architecture, checkpoint, parse_normalisation(mean, std, form[0]))
    classifier = Classifier(
        network,
        num_classes=classes,
        image_shape=form,
        mean=means,
        std=deviations,
        name=architecture,
        training=checkpoint.record,
    )
    classifier.notes = (*checkpoint.notes, *classifier.notes)
    return classifier


def recipe_of(reference: str) -> str | None:
    """The recipe by which a checkpoint of ours was trained; None for one trained plainly, or by others.

    Raises:
        OodbenchError: there is no such file, or it is no checkpoint.
    """
    recipe: str | None = load_checkpoint(_parts(reference)[1]).record.get("recipe")
    return recipe


def default_model(image_shape: ImageShape) -> str:
    """The architecture that is trained where the user names none: the small CNN for that size of image."""
    size = max(image_shape[1:])
    return "cnn8" if size <= 16 else "cnn28" if size <= 28 else "cnn32"


def _parts(reference: str) -> tuple[str | None, Path]:
    """Architecture, if it is given, and path."""
    before, equals, after = reference.partition("=")
    # A path may have an = in it.
    if equals and not Path(reference).exists():
        return find_model(before).name, Path(after).expanduser()
    if reference in MODELS and not Path(reference).exists():
        raise OodbenchError(f"{reference} is an architecture, not a checkpoint; write {reference}=PATH")
    return None, Path(reference).expanduser()


def _network(architecture: str, checkpoint: Checkpoint, stored: ImageShape) -> tuple[nn.Module, int, ImageShape]:
    """The network with the checkpoint's weights, its number of classes and its image form."""
    state, wanted = checkpoint.state, template(architecture)
    found = classes_and_channels(wanted, state)
    if found is None:
        raise _does_not_fit(checkpoint.path, architecture, differences(wanted, shapes(state)))
    classes, channels = found
    if channels not in (1, 3):
        raise OodbenchError(
            f"{checkpoint.path} takes images of {channels} channels; oodbench knows grey (1) and RGB (3)"
        )
    native = find_model(architecture).image_shape
    form = checkpoint.image_shape or (channels, *(native or stored)[1:])
    # The weights that it draws are replaced at once; the caller's random numbers stay as they were.
    with torch.random.fork_rng(devices=[]):
        network = build(architecture, classes, form)
    unlike = differences(shapes(network.state_dict()), shapes(state))
    if unlike:
        raise _does_not_fit(checkpoint.path, architecture, unlike)
    network.load_state_dict(dict(state))
    return network.eval(), classes, form


def _does_not_fit(path: Path, architecture: str, unlike: str) -> OodbenchError:
    return OodbenchError(f"{path} does not hold the weights of {architecture}: {unlike}; name another architecture")


def _normalisation(
    architecture: str, checkpoint: Checkpoint, given: tuple[Statistics, Statistics] | None
) -> tuple[Statistics, Statistics]:
    known = None
    if checkpoint.mean is not None and checkpoint.std is not None:
        known = checkpoint.mean, checkpoint.std
    elif find_model(architecture).source == TORCHVISION:
        from oodbench.models.from_torchvision import published_normalisation

        known = published_normalisation(architecture, checkpoint.path)
    if known and given and known != given:
        raise OodbenchError(
            f"{checkpoint.path} says that it was trained with mean {known[0]} and std {known[1]}; "
            f"leave out --mean and --std"
        )
    normalisation = known or given
    if normalisation is None:
        raise OodbenchError(
            f"{checkpoint.path} does not say how its input was normalised in training: give --mean and "
            f"--std, in numbers (--mean 0.485,0.456,0.406 --std 0.229,0.224,0.225) or by name (cifar10); "
            f"--mean none if it was trained on pixels in [0, 1]"
        )
    return normalisation
