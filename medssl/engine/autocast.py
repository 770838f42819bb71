"""Mixed precision wherever the network runs; MONAI's trainer knows CUDA alone."""

from typing import Any

import torch
from monai.inferers import Inferer
from torch import nn


class AutocastInferer(Inferer):
    """Run another inferer under ``torch.autocast`` on the device of the network's parameters.

    bfloat16 needs no loss scaling, so this serves training and evaluation on CPU and GPU alike.

    Args:
        inferer: does the work, such as MONAI's ``SimpleInferer`` or ``SliceInferer``.
        enabled: False runs it in the precision of the parameters.
        dtype: of the arithmetic under autocast.
    """

    def __init__(self, inferer: Inferer, enabled: bool = True, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.inferer, self.enabled, self.dtype = inferer, enabled, dtype

    def __call__(self, inputs: Any, network: nn.Module, *args: Any, **kwargs: Any) -> Any:
        """Infer ``inputs`` with ``network``."""
        with torch.autocast(next(network.parameters()).device.type, self.dtype, enabled=self.enabled):
            return self.inferer(inputs, network, *args, **kwargs)
