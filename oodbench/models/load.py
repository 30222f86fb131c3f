"""From what the user writes for a classifier to a Classifier."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from oodbench.classifier import Classifier
from oodbench.data.inputs import Form
from oodbench.data.preprocess import Preprocess
from oodbench.errors import OodbenchError
from oodbench.models.catalogue import MODELS, TORCHVISION, ImageShape, build, find_model
from oodbench.models.checkpoint import Checkpoint, load_checkpoint
from oodbench.models.foreign import classes_and_channels, differences, recognise, shapes, template
from oodbench.models.preprocessing import Said, own_size, preprocess_of

TIMM = "timm:"
"""What a reference to a network of timm begins with."""


def load_classifier(
    reference: str,
    *,
    num_classes: int | None,
    image_shape: ImageShape,
    mean: str | None = None,
    std: str | None = None,
    resize: str | int | None = None,
    crop: str | int | None = None,
    interpolation: str | None = None,
    preprocess: str | Preprocess | None = None,
) -> Classifier:
    """The classifier of a checkpoint, with its preprocess.

    Args:
        reference: PATH, ARCHITECTURE=PATH where the file does not say which architecture it is of, or timm:NAME=PATH;
            PATH#KEY for the weights under a key of the file, as model_ema.
        num_classes: how many classes it must tell apart; None for any number.
        image_shape: (C, H, W) of the ID images as they are stored. The checkpoint's own form, that of published
            weights, and what the user says go before it; where a checkpoint tells only its channels, and its
            architecture takes any size, H and W are taken from here.
        mean, std, resize, crop, interpolation, preprocess: see `Said`; of a preprocess that is known (a guard's), the
            record.

    Raises:
        OodbenchError: the file, the architecture, the number of classes or channels, or the preprocess is
            wrong or missing; nothing is guessed.
    """
    named_record = preprocess if isinstance(preprocess, Preprocess) else None
    said = Said(mean, std, resize, crop, interpolation, None if isinstance(preprocess, Preprocess) else preprocess)
    named, path = _parts(reference)
    checkpoint = load_checkpoint(path)
    if named and checkpoint.architecture and named != checkpoint.architecture:
        raise OodbenchError(f"{path} holds a {checkpoint.architecture}, not a {named}; write only {path}")
    architecture = named or checkpoint.architecture or recognise(checkpoint.state, path)
    network, classes, form = _network(architecture, checkpoint, image_shape, said, named_record)
    if num_classes is not None and classes != num_classes:
        raise OodbenchError(
            f"{path} ({architecture}) tells {classes} classes apart, but the ID set has {num_classes}; "
            f"give a classifier that was trained on this ID set"
        )
    classifier = Classifier(
        network,
        num_classes=classes,
        preprocess=form,
        name=architecture.removeprefix(TIMM),
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
    if equals and before.startswith(TIMM) and not Path(reference).exists():
        return before, Path(after).expanduser()
    # A path may have an = in it.
    if equals and not Path(reference).exists():
        return find_model(before).name, Path(after).expanduser()
    if reference in MODELS and not Path(reference).exists():
        raise OodbenchError(f"{reference} is an architecture, not a checkpoint; write {reference}=PATH")
    return None, Path(reference).expanduser()


def _network(
    architecture: str, checkpoint: Checkpoint, stored: ImageShape, said: Said, record: Preprocess | None
) -> tuple[nn.Module, int, Form]:
    """The network with the checkpoint's weights, its number of classes and its preprocess."""
    state, where = checkpoint.state, str(checkpoint.path)
    if architecture.startswith(TIMM):
        from oodbench.models.from_timm import timm_network

        made, count, known = timm_network(architecture.removeprefix(TIMM), state, checkpoint.path)
        return made, count, record or preprocess_of(said, known, None, where, known.shape[0])
    wanted = template(architecture)
    found = classes_and_channels(wanted, state)
    if found is None:
        raise _does_not_fit(checkpoint.path, architecture, differences(wanted, shapes(state)))
    classes, channels = found
    if channels not in (1, 3):
        raise OodbenchError(
            f"{checkpoint.path} takes images of {channels} channels; oodbench knows grey (1) and RGB (3)"
        )
    form = record or preprocess_of(
        said, _known(architecture, checkpoint), _own_form(architecture, channels, stored), where, channels
    )
    # The weights that it draws are replaced at once; the caller's random numbers stay as they were.
    with torch.random.fork_rng(devices=[]):
        network = build(architecture, classes, form.shape)
    unlike = differences(shapes(network.state_dict()), shapes(state))
    if unlike:
        raise _does_not_fit(checkpoint.path, architecture, unlike)
    network.load_state_dict(dict(state))
    return network.eval(), classes, form


def _does_not_fit(path: Path, architecture: str, unlike: str) -> OodbenchError:
    return OodbenchError(f"{path} does not hold the weights of {architecture}: {unlike}; name another architecture")


def _known(architecture: str, checkpoint: Checkpoint) -> Preprocess | None:
    """What a checkpoint of ours says, or torchvision of one of its own."""
    if checkpoint.preprocess is None and find_model(architecture).source == TORCHVISION:
        from oodbench.models.from_torchvision import published_preprocess

        return published_preprocess(architecture, checkpoint.path)
    return checkpoint.preprocess


def _own_form(architecture: str, channels: int, stored: ImageShape) -> ImageShape | None:
    """The form of a network of which nobody says any: what the architecture is made for, or that of the ID images."""
    entry = find_model(architecture)
    if entry.source != TORCHVISION:
        return (channels, *(entry.image_shape or stored)[1:])
    # Networks of torchvision take many sizes, and people train them on any.
    return (channels, *stored[1:]) if own_size(stored) else None
