import pytest
import torch

from medssl.networks import ResNetEncoder, load_imagenet


@pytest.fixture(scope="module")
def colour():
    torch.manual_seed(0)
    return ResNetEncoder(in_channels=3).eval()


@pytest.fixture
def file(colour, tmp_path):
    """Weights as torchvision saves them."""
    path = tmp_path / "resnet50.pth"
    torch.save({**colour.state_dict(), "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}, path)
    return path


def test_a_slice_gives_what_it_gives_in_red_green_and_blue(colour, file):
    encoder, image = ResNetEncoder().eval(), torch.randn(1, 1, 64, 64)
    load_imagenet(encoder, file)
    for grey, repeated in zip(encoder(image), colour(image.expand(-1, 3, -1, -1)), strict=True):
        torch.testing.assert_close(grey, repeated, atol=1e-4, rtol=1e-4)


def test_other_weights_are_refused(file, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights at nowhere.pth; give torchvision's file of a ResNet-50"):
        load_imagenet(ResNetEncoder(), "nowhere.pth")
    weights = torch.load(file, weights_only=True)
    torch.save({name: weights[name] for name in weights if "layer4" not in name}, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match=r"no ResNet-50 under torchvision's names: \d+ of 318 .*, layer4.0.conv1"):
        load_imagenet(ResNetEncoder(), tmp_path / "cut.pth")
    torch.save(weights | {"layer1.0.conv1.weight": torch.zeros(64, 32, 1, 1)}, tmp_path / "wide.pth")
    with pytest.raises(ValueError, match=r"layer1.0.conv1.weight is \(64, 32, 1, 1\), not \(64, 64, 1, 1\)"):
        load_imagenet(ResNetEncoder(), tmp_path / "wide.pth")
