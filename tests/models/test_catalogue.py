"""The catalogue of architectures, and the architectures themselves."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from oodbench.classifier import Classifier
from oodbench.errors import OodbenchError
from oodbench.live import collected, passes
from oodbench.models.catalogue import MODELS, build, find_model
from oodbench.models.load import default_model
from oodbench.outputs import Needs

# He et al. 2016 (arXiv 1512.03385), table 6, give 0.27, 0.46, 0.66, 0.85 and 1.7 million.
PARAMETERS = {
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    "resnet18-32": 11_173_962,
}


def with_statistics(name: str, channels: int = 3, classes: int = 10) -> nn.Module:
    """An untrained network whose BatchNorm layers have seen data, in eval mode."""
    torch.manual_seed(0)
    height, width = (find_model(name).image_shape or (3, 32, 32))[1:]
    module = build(name, classes, (channels, height, width))
    module(torch.randn(8, channels, height, width))
    return module.eval()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "resnet110"])
def test_head_and_layers_are_found_and_the_last_layer_is_the_penultimate(name: str, channels: int) -> None:
    shape = (channels, *(MODELS[name].image_shape or (3, 32, 32))[1:])
    module = with_statistics(name, channels, classes=7)
    classifier = Classifier(module, num_classes=7, image_shape=shape)
    assert classifier.head in {"head", "linear", "fc"}
    assert classifier.layers == module.candidate_layers
    images = torch.randint(0, 256, (3, *shape), dtype=torch.uint8)
    needs = Needs("logits", "features", "layer:*")
    outputs, _ = collected(passes(classifier, [images], needs))
    torch.testing.assert_close(outputs.layer(classifier.layers[-1]), outputs.features)
    for layer in classifier.layers[:-1]:
        assert outputs.layer(layer).shape[1] > 0 and outputs.layer(layer).min() >= 0
    head = dict(module.named_modules())[classifier.head]
    assert isinstance(head, nn.Linear)
    torch.testing.assert_close(head(outputs.features), outputs.logits)


@pytest.mark.parametrize("name", MODELS)
def test_networks_take_other_sizes(name: str) -> None:
    assert build(name, 4, (3, 36, 20)).eval()(torch.rand(2, 3, 36, 20)).shape == (2, 4)


@pytest.mark.parametrize(("name", "count"), PARAMETERS.items())
def test_number_of_parameters(name: str, count: int) -> None:
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in build(name, 10, (3, 32, 32)).parameters()) == count


def reference_cifar_resnet(state: dict[str, Tensor], images: Tensor) -> Tensor:
    """The CIFAR ResNet as a plain function of its state dict, in eval mode."""

    def conv_bn(maps: Tensor, prefix: str, number: int, stride: int = 1) -> Tensor:
        maps = F.conv2d(maps, state[f"{prefix}conv{number}.weight"], stride=stride, padding=1)
        mean, var, weight, bias = (
            state[f"{prefix}bn{number}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(maps, mean, var, weight, bias)

    maps = conv_bn(images, "", 1).relu()
    for stage in (1, 2, 3):
        block = 0
        while f"layer{stage}.{block}.conv1.weight" in state:
            prefix, stride = f"layer{stage}.{block}.", 2 if stage > 1 and block == 0 else 1
            residual = conv_bn(conv_bn(maps, prefix, 1, stride).relu(), prefix, 2)
            shortcut = maps[:, :, ::stride, ::stride]
            if stride == 2:
                zeros = torch.zeros_like(shortcut[:, : shortcut.shape[1] // 2])
                shortcut = torch.cat([zeros, shortcut, zeros], dim=1)
            maps, block = (residual + shortcut).relu(), block + 1
    return F.linear(maps.flatten(2).mean(dim=2), state["linear.weight"], state["linear.bias"])


@pytest.mark.parametrize("name", ["resnet20", "resnet44"])
def test_cifar_resnet_equals_a_plain_reference(name: str) -> None:
    module = with_statistics(name)
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(module(images), reference_cifar_resnet(module.state_dict(), images))


def test_resnet18_for_32_equals_torchvisions_with_another_stem() -> None:
    module = with_statistics("resnet18-32")
    other = torchvision.models.resnet18(num_classes=10)
    other.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    other.maxpool = nn.Identity()
    # OpenOOD's names are torchvision's but for this one.
    state = {name.replace(".shortcut.", ".downsample."): tensor for name, tensor in module.state_dict().items()}
    other.load_state_dict(state)
    images = torch.randn(4, 3, 32, 32)
    torch.testing.assert_close(module(images), other.eval()(images))


def test_torchvision_models_by_name() -> None:
    assert find_model("mobilenet_v3_small").image_shape == (3, 224, 224)
    assert build("mobilenet_v3_small", 6, (3, 224, 224)).eval()(torch.rand(1, 3, 64, 64)).shape == (1, 6)
    with pytest.raises(OodbenchError, match="3 channels, not 1"):
        build("mobilenet_v3_small", 6, (1, 224, 224))


def test_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(OodbenchError, match=r"no model 'resnet21'; did you mean .*resnet20"):
        find_model("resnet21")


@pytest.mark.parametrize(
    ("shape", "name"),
    [((1, 8, 8), "cnn8"), ((1, 28, 28), "cnn28"), ((3, 32, 32), "cnn32"), ((3, 64, 48), "cnn32")],
)
def test_default_model_by_size(shape: tuple[int, int, int], name: str) -> None:
    assert default_model(shape) == name
