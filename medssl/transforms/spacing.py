"""Volumes of one orientation and spacing, sliced along the axis that their manifest names."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from numbers import Real
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.config import DtypeLike, KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Orientation, Spacing
from monai.transforms.spatial.functional import orientation
from monai.utils import TraceKeys, ensure_tuple_rep
from nibabel.affines import voxel_sizes

from medssl.readers.geometry import shear, spans_space
from medssl.transforms.origin import origin

# Slices are numbered in the direction of the letter; within them rows and columns run as a radiologist looks at them.
AXCODES = {"S": "SPL", "I": "IPL", "A": "AIL", "P": "PIL", "R": "RIP", "L": "LIP"}


class ResampleToSpacing(InvertibleTransform):
    """Turn a volume so that its slices come first, and resample it: (C, *) to (C, D, H, W).

    Along S the rows run to posterior and the columns to the left ("SPL"), along A to inferior and left, along R to
    inferior and posterior, whatever the axis order of the file. A volume that has the spacing already, within 0.001 mm,
    is turned, not interpolated. MONAI's ``Orientation`` and ``Spacing`` do the work.

    Args:
        spacing: (depth, height, width) of a voxel, mm; None keeps that of the file. The default is the LRC paper's
            (Yan et al. 2023).
        slice_axis: direction in which slices are numbered, one of S, I, A, P, R, L; or ``"largest_spacing"``, the voxel
            axis of largest spacing, for oblique stacks whose anatomical axes say little, numbered toward S, A or R.
        mode: ``"bilinear"`` for images, ``"nearest"`` for labels, which then keep their values; or the order of a
            spline, 0 to 5.
        padding_mode: how values beyond the border are taken, see ``torch.nn.functional.grid_sample``.
        dtype: in which interpolation computes.

    Shape:
        - volume: :math:`(C, *)` with three spatial dimensions, a ``MetaTensor`` with its affine.
        - output: :math:`(C, D, H, W)`, contiguous; float32, labels too, whole numbers exact to 2^24.

    Raises:
        ValueError: for a spacing, axis or mode that is none; when called, for other dimensions, a broken or
            sheared affine, or two axes of largest spacing.
    """

    def __init__(
        self,
        spacing: Sequence[float | None] = (2.5, 1.0, 1.0),
        slice_axis: str = "S",
        mode: str | int = "bilinear",
        padding_mode: str = "border",
        dtype: DtypeLike = np.float32,
    ) -> None:
        sides: list[Any] = list(spacing) if np.iterable(spacing) else [spacing]
        lengths = [side for side in sides if side is not None]
        numbers = all(isinstance(side, Real) for side in lengths)
        if len(sides) != 3 or not numbers or not all(0 < side < float("inf") for side in lengths):
            raise ValueError(f"spacing must be three positive lengths in mm or None, got {sides}.")
        if slice_axis != "largest_spacing" and slice_axis not in AXCODES:
            raise ValueError(f"slice_axis must be one of {', '.join(AXCODES)} or largest_spacing, got {slice_axis!r}.")
        if mode not in ("bilinear", "nearest", *range(6)):
            raise ValueError(f"mode must be bilinear, nearest or the order of a spline, 0 to 5, got {mode!r}.")
        self.slice_axis = slice_axis
        # MONAI keeps the file's spacing where it is given none that is positive.
        pixdim = [-1.0 if side is None else side for side in spacing]
        self.resample = Spacing(pixdim, mode=mode, padding_mode=padding_mode, dtype=dtype)

    def __call__(self, volume: torch.Tensor) -> torch.Tensor:
        """Return the volume, turned and resampled."""
        return self.resample(Orientation(AXCODES[self.axis(volume)], labels=None)(volume))

    def inverse(self, volume: torch.Tensor) -> torch.Tensor:
        """Bring a volume, or a prediction that carries its transforms, back to the grid of the file.

        The file's affine says how to turn back: MONAI's own inverse goes by axis codes, ambiguous at 45 degrees.
        """
        turned = self.resample.inverse(volume)
        trace = self.pop_transform(turned, check=False)  # of the Orientation, which lived for one call
        file = np.asarray(trace[TraceKeys.EXTRA_INFO]["original_affine"])
        turn = np.linalg.solve(turned.affine.numpy(), file)[:3, :3].round()  # a permutation with signs
        axes = np.abs(turn).argmax(axis=1)
        back = np.stack([axes, turn[range(3), axes]], axis=1)  # nibabel's: new axis and direction of each axis
        return orientation(turned, file, back, lazy=False, transform_info=None)

    def axis(self, volume: torch.Tensor) -> str:
        """Return the direction in which this volume's slices are numbered, as one letter."""
        if volume.ndim != 4:
            raise ValueError(
                f"a volume must be (C, *) with three spatial dimensions, got {tuple(volume.shape)}{origin(volume)}; "
                "split a series of frames into volumes first."
            )
        if not isinstance(volume, MetaTensor):
            raise ValueError("a volume must have an affine, got a plain tensor; load it with LoadScand.")
        affine = np.asarray(volume.affine, dtype=float)
        sizes = voxel_sizes(affine)
        if not spans_space(affine):
            raise ValueError(
                f"an affine must be finite and span three axes, got {affine.tolist()}{origin(volume)}; "
                "repair the header or leave the case out."
            )
        if angle := shear(affine):
            raise ValueError(
                f"the axes of a volume must be at right angles, got them {angle:.1f} degrees off{origin(volume)}; "
                "resample it to a grid without shear first."
            )
        if self.slice_axis != "largest_spacing":
            return self.slice_axis
        if np.isclose(sizes, sizes.max(), rtol=1e-3).sum() > 1:
            raise ValueError(
                f"largest_spacing needs one axis of largest spacing, got {sizes.round(4).tolist()} mm{origin(volume)}; "
                "name the slice axis, such as S."
            )
        letter = nib.aff2axcodes(affine)[int(sizes.argmax())]
        return {"I": "S", "P": "A", "L": "R"}.get(letter, letter)


def voxel_axis(affine: np.ndarray, slice_axis: str) -> int:
    """Return the axis of a file's voxels along which :py:class:`ResampleToSpacing` slices it."""
    if slice_axis == "largest_spacing":
        return int(np.argmax(voxel_sizes(affine)))
    opposite = dict(zip("SIAPRL", "ISPALR", strict=True))[slice_axis]
    codes = nib.aff2axcodes(affine)
    return codes.index(slice_axis if slice_axis in codes else opposite)


class ResampleToSpacingd(MapTransform, InvertibleTransform):
    """Dictionary-based :py:class:`ResampleToSpacing`, with one ``mode`` for all keys or one for each.

    Only ``keys`` are looked at: MONAI's ``Spacingd`` (1.6.0, 1.6.1) takes any entry named ``image_*``, such as
    MONAI Label's ``image_path``, for metadata, and fails.
    """

    def __init__(
        self,
        keys: KeysCollection,
        spacing: Sequence[float | None] = (2.5, 1.0, 1.0),
        slice_axis: str = "S",
        mode: str | int | Sequence[str | int] = "bilinear",
        padding_mode: str = "border",
        dtype: DtypeLike = np.float32,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        modes = ensure_tuple_rep(mode, len(self.keys))
        self.resamplers = [ResampleToSpacing(spacing, slice_axis, m, padding_mode, dtype) for m in modes]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with its volumes turned and resampled."""
        return {**data, **{key: resample(data[key]) for key, resample in self.key_iterator(data, self.resamplers)}}

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Return the dictionary with its volumes back on their files' grids."""
        pairs = self.key_iterator(data, self.resamplers)
        return {**data, **{key: resample.inverse(data[key]) for key, resample in pairs}}
