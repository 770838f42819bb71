"""Which classes were contoured, beside the label."""

from typing import Any

import torch
from monai.engines.utils import PrepareBatch


class PrepareKnownClasses(PrepareBatch):
    """Give the network the image, and the loss a dictionary of ``label`` and ``known``.

    See :py:class:`medssl.losses.KnownClassesLoss`.
    """

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return both, on the device."""
        image = batchdata["image"].to(device, non_blocking=non_blocking, **kwargs)
        target = {key: batchdata[key].to(device, non_blocking=non_blocking) for key in ("label", "known")}
        return image, target
