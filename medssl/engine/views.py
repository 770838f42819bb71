"""From collated slices to what methods take: views, tiles, damaged images."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.engines.utils import PrepareBatch
from torch import Tensor

Deformation = Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor | None]]


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
        place: dict[str, Tensor] = {key: batchdata[key].to(device) for key in ("index", "depth")}
        views = {"view_1": self.view(images, subject), "view_2": self.view(images, subject)}
        return {**views, "subject": subject, **place}, None


class PrepareDeformedViews(PrepareBatch):
    """Move a batch of slices, and their regions where it has any, to the device and deform them there.

    The method receives ``view_1``, ``view_2`` and so on :math:`(n, C, *)`; of slices that know their place the integers
    ``index`` and ``depth`` :math:`(n)`; of a batch with ``regions`` also ``regions_1``, ``regions_2``
    :math:`(n, 1, *)`, numbered alike, and ``num_regions``, one more than the largest number. That is read where the
    batch was made: the device does not have to be waited for.

    Args:
        deformations: one for each view, called as ``deform(images, regions)``, returns both, such as
            :py:class:`medssl.transforms.RandJointElasticBatch`; None leaves them as they are.
        intensity: called with the images of each view after that, such as
            :py:class:`medssl.transforms.RandIntensityBatch`.
    """

    def __init__(
        self, deformations: Sequence[Deformation | None], intensity: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.deformations, self.intensity = deformations, intensity

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], None]:
        """Return the method's input, and no target."""
        images = batchdata["image"].to(device, non_blocking=non_blocking, **kwargs)
        regions = batchdata.get("regions")
        prepared: dict[str, Any] = {key: batchdata[key].to(device) for key in ("index", "depth") if key in batchdata}
        if regions is not None:
            prepared["num_regions"] = int(regions.max()) + 1
            regions = regions.to(device, non_blocking=non_blocking)
        for number, deform in enumerate(self.deformations, start=1):
            view, labels = (images, regions) if deform is None else deform(images, regions)
            prepared[f"view_{number}"] = view if self.intensity is None else self.intensity(view)
            if labels is not None:
                prepared[f"regions_{number}"] = labels
        return prepared, None


class PrepareTiles(PrepareBatch):
    """Move a batch of slices to the device and cut it into tiles there.

    The method receives ``tiles`` :math:`(n, S, C, h, h)`; where they are asked for also ``view_1``
    :math:`(n, C, H, W)`, the slices themselves, and ``sample`` :math:`(n)`, their numbers.

    Args:
        tiles: called with the slices, such as :py:class:`medssl.transforms.RandTilesBatch`.
        tiles_crop: called as ``crop(images, None)`` before that, returns the images first, such as
            :py:class:`medssl.transforms.RandResizedCropBatch`; None leaves the slices as they are.
        crop: the same, of the slices themselves; None does without them.
        intensity: called with what each crop gives, such as :py:class:`medssl.transforms.RandIntensityBatch`.
        numbers: :py:class:`medssl.data.SliceNumbers`; None does without.
    """

    def __init__(
        self,
        tiles: Callable[[Tensor], Tensor],
        tiles_crop: Deformation | None = None,
        crop: Deformation | None = None,
        intensity: Callable[[Tensor], Tensor] | None = None,
        numbers: Callable[[Sequence[str], Tensor], Tensor] | None = None,
    ) -> None:
        self.tiles, self.tiles_crop, self.crop = tiles, tiles_crop, crop
        self.intensity, self.numbers = intensity, numbers

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[dict[str, Tensor], None]:
        """Return the method's input, and no target."""
        images = batchdata["image"].to(device, non_blocking=non_blocking, **kwargs)

        def cropped(crop: Deformation | None) -> Tensor:
            view = images if crop is None else crop(images, None)[0]
            return view if self.intensity is None else self.intensity(view)

        prepared = {"tiles": self.tiles(cropped(self.tiles_crop))}
        if self.crop is not None:
            prepared["view_1"] = cropped(self.crop)
        if self.numbers is not None:
            prepared["sample"] = self.numbers(batchdata["case_id"], batchdata["index"]).to(device)
        return prepared, None


class PrepareRestoration(PrepareBatch):
    """Move a batch of images to the device and damage them there.

    Damage is done to intensities in [0, 1], from each image's lowest to its highest, and what remains is brought back
    to where they were: the network sees the intensities that it will see in fine-tuning. The method receives ``view_1``
    :math:`(n, C, *)`, damaged, and ``target`` :math:`(n, C, *)`, whole and in [0, 1].

    Args:
        damage: called one after the other with the images, such as :py:class:`medssl.transforms.RandPaintingBatch`.
        deformation: of both before that, called as ``deform(images, None)``, returns the images first; None leaves them
            as they are.
    """

    def __init__(self, damage: Sequence[Callable[[Tensor], Tensor]], deformation: Deformation | None = None) -> None:
        self.damage, self.deformation = damage, deformation

    def __call__(
        self,
        batchdata: dict[str, Any],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[dict[str, Tensor], None]:
        """Return the method's input, and no target: that is in the input."""
        images = batchdata["image"].to(device, non_blocking=non_blocking, **kwargs)
        if self.deformation is not None:
            images = self.deformation(images, None)[0]
        axes = tuple(range(1, images.ndim))
        low, high = images.amin(dim=axes, keepdim=True), images.amax(dim=axes, keepdim=True)
        scale = (high - low).clamp(min=1e-8)
        target = (images - low) / scale
        damaged = target
        for change in self.damage:
            damaged = change(damaged)
        return {"view_1": damaged * scale + low, "target": target}, None
