"""From collated slices to the two views that contrastive methods take."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from monai.engines.utils import PrepareBatch
from torch import Tensor


class PrepareViews(PrepareBatch):
    """Move a batch of slices to the device and draw two views of it there.

    The method receives ``view_1`` and ``view_2`` :math:`(n, C, H, W)` and the integers ``subject``, ``index`` and
    ``depth`` :math:`(n)`; subjects are numbered within the batch.

    Args:
        view: called as ``view(images, subject)``, such as :py:class:`medssl.transforms.RandSpatialBatch`.
    """

    def __init__(self, view: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.view = view

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[dict[str, Tensor], None]:
        """Return the method's input, and no target."""
        images = batchdata["image"].to(device, non_blocking=non_blocking, **kwargs)
        _, numbers = np.unique(batchdata["subject_id"], return_inverse=True)
        subject = torch.as_tensor(numbers).to(device)
        place = {key: batchdata[key].to(device) for key in ("index", "depth")}
        views = {"view_1": self.view(images, subject), "view_2": self.view(images, subject)}
        return {**views, "subject": subject, **place}, None
