"""What contrastive crops need of an engine: views around boxes, and boxes found anew from time to time."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import PrepareBatch
from torch import Tensor

from medssl.methods.contrastive_crop import ContrastiveCrop


class PrepareContrastiveCrops(PrepareBatch):
    """Move a batch of slices to the device and draw two crops of each around its box there.

    The method receives ``view_1`` and ``view_2`` :math:`(n, C, H, W)`.

    Args:
        crop: called with the slices and their boxes, such as :py:class:`medssl.transforms.RandContrastiveCropBatch`.
        network: that remembers the boxes.
        numbers: :py:class:`medssl.data.SliceNumbers`.
        intensity: called with each view after that, such as :py:class:`medssl.transforms.RandIntensityBatch`.
    """

    def __init__(
        self,
        crop: Callable[[Tensor, Tensor], Tensor],
        network: ContrastiveCrop,
        numbers: Callable[[Sequence[str], Tensor], Tensor],
        intensity: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.crop, self.network, self.numbers, self.intensity = crop, network, numbers, intensity

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[dict[str, Tensor], None]:
        """Return the method's input, and no target."""
        images = batchdata["image"].to(device, non_blocking=non_blocking, **kwargs)
        boxes = self.network.boxes[self.numbers(batchdata["case_id"], batchdata["index"]).to(device)]
        views = [self.crop(images, boxes) for _ in range(2)]
        if self.intensity is not None:
            views = [self.intensity(view) for view in views]
        return {f"view_{number}": view for number, view in enumerate(views, start=1)}, None


class LocateBoxes:
    """Find the boxes of all slices anew every few epochs, first after as many; crops are drawn anywhere until then.

    Args:
        network: that remembers the boxes.
        slices: batches with ``image`` :math:`(n, C, H, W)`, all slices of the data set in the order of their numbers.
        interval: epochs; 20 of 100 for ImageNet, 100 of 500 for CIFAR.
        autocast: look in bfloat16, as the training does.

    Raises:
        ValueError: if the interval is below 1.
    """

    def __init__(
        self, network: ContrastiveCrop, slices: Iterable[dict[str, Any]], interval: int, autocast: bool = False
    ) -> None:
        if interval < 1:
            raise ValueError(f"interval must be at least 1 epoch, got {interval}.")
        self.network, self.slices, self.interval, self.autocast = network, slices, interval, autocast

    def attach(self, engine: Engine) -> None:
        """Listen to a trainer."""
        # As an epoch begins, not as one ends: a run that is resumed finds what the uninterrupted one has found.
        engine.add_event_handler(Events.EPOCH_STARTED(event_filter=self.due), self.locate)

    def due(self, engine: Engine, epoch: int) -> bool:
        """Whether boxes are found before this epoch; one that is resumed in its midst has its boxes."""
        begins = engine.state.iteration == (epoch - 1) * engine.state.epoch_length
        return begins and epoch > 1 and (epoch - 1) % self.interval == 0

    def locate(self, engine: Engine) -> None:
        """Pass over all slices, normalising by what training has gathered."""
        training, start = self.network.training, 0
        self.network.eval()
        for batch in self.slices:
            images = batch["image"].to(engine.state.device)
            samples = torch.arange(start, start + len(images), device=images.device)
            with torch.autocast(images.device.type, torch.bfloat16, enabled=self.autocast):
                self.network.locate(images, samples)
            start += len(images)
        self.network.train(training)
