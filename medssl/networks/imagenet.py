"""Supervised weights of ImageNet for an encoder of grey slices."""

from pathlib import Path

from torch import Tensor

from medssl.networks.resnet import ResNetEncoder
from medssl.networks.weights import load_tensors


def load_imagenet(encoder: ResNetEncoder, path: str | Path) -> None:
    """Load ImageNet's weights of a ResNet-50 into an encoder; the classifier stays behind.

    The first convolution is summed over red, green and blue, which gives what the three would give of a slice repeated
    in all of them.

    Args:
        encoder: of slices with one channel; receives the weights in place.
        path: a ``state_dict`` under torchvision's names, such as ``resnet50-0676ba61.pth``; read with ``weights_only``.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it holds other weights.

    Reference:
        Deng et al., ImageNet: A Large-Scale Hierarchical Image Database, CVPR 2009; the row "ImageNet" of LRC, Yan et
        al., arXiv:2304.03406, which names no release of weights.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no weights at {path}; give torchvision's file of a ResNet-50, nothing is downloaded.")
    given: dict[str, Tensor] = load_tensors(Path(path))
    own = encoder.state_dict()
    found = {name: given[name] for name in own if name in given}
    if missing := [name for name in own if name not in found]:
        raise ValueError(
            f"{path} is no ResNet-50 under torchvision's names: {len(missing)} of {len(own)} tensors are not in it, "
            f"{missing[0]} for one."
        )
    found["conv1.weight"] = found["conv1.weight"].sum(dim=1, keepdim=True)
    if wrong := [name for name in own if found[name].shape != own[name].shape]:
        raise ValueError(
            f"{path} is no ResNet-50: {wrong[0]} is {tuple(found[wrong[0]].shape)}, not {tuple(own[wrong[0]].shape)}."
        )
    encoder.load_state_dict(found)
