"""Mixed precision wherever the network runs; MONAI's trainer knows CUDA alone."""

from typing import Any

import torch
from monai.inferers import Inferer
from torch import nn


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether bfloat16 is worth computing in on ``device``.

    A GPU older than Ampere and a CPU without AVX-512 only emulate it: a convolution takes some nine times as long as in
    float32 on the latter.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512"


class AutocastInferer(Inferer):
    """Run another inferer under ``torch.autocast`` on the device of the network's parameters.

    bfloat16 needs no loss scaling, so this serves training and evaluation on CPU and GPU alike. A tensor comes back in
    float32: softmax and the sums of Dice lose voxels in bfloat16.

    Args:
        inferer: does the work, such as MONAI's ``SimpleInferer`` or ``SliceInferer``.
        enabled: False runs it in the precision of the parameters.
    """

    def __init__(self, inferer: Inferer, enabled: bool = True) -> None:
        super().__init__()
        self.inferer, self.enabled = inferer, enabled

    def __call__(self, inputs: Any, network: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Infer ``inputs`` with ``network``."""
        with torch.autocast(next(network.parameters()).device.type, torch.bfloat16, enabled=self.enabled):
            output = self.inferer(inputs, network, *args, **kwargs)
        return output.float() if isinstance(output, torch.Tensor) else output
