"""A slice store, volumes resampled and windowed once and their regions: slices are read without touching a volume."""

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from monai.data import get_track_meta, set_track_meta
from monai.transforms import Compose, CopyItemsd, MapTransform, ScaleIntensityd
from torch import Tensor
from torch.utils.data import Dataset

from medssl.data.samplers import Draw
from medssl.data.seeded_dataset import share_random_state
from medssl.transforms import LoadScand, RandSlices, ResampleToSpacingd, Superpixels, Superpixelsd, Windowd
from medssl.transforms.slices import Slicer

LAYOUT = 4  # of the files and of what our transforms put into them; another one is another number
RECIPE, VOLUMES = "store.json", "volumes"


def store_recipe(
    spacing: Sequence[float | None],
    slice_axis: str,
    window: Mapping[str, Any],
    superpixels: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Return what decides the content of a store: what prepares it and what reads it must agree on it.

    Args:
        spacing: (depth, height, width), mm; None keeps the file's.
        slice_axis: see :py:class:`medssl.transforms.ResampleToSpacing`.
        window: arguments of :py:class:`medssl.transforms.Window`.
        superpixels: arguments of :py:class:`medssl.transforms.Superpixels`; None for no regions.

    Returns:
        These, and the versions of the packages that resample and partition, as JSON would give them back.

    Raises:
        TypeError: if there is no such argument of super-pixels.
        ValueError: if one is out of its range.
    """
    if superpixels is not None:  # those that are not given have defaults
        whole = Superpixels(**superpixels)  # type: ignore[arg-type]
        superpixels = {"scale": whole.scale, "sigma": whole.sigma, "min_size": whole.min_size}
    recipe = {"layout": LAYOUT, "spacing": list(spacing), "slice_axis": slice_axis, "window": dict(window)}
    recipe["versions"] = {name: version(name) for name in ("monai", "scikit-image")}
    return dict(json.loads(json.dumps({**recipe, "superpixels": superpixels})))


def store_transform(recipe: Mapping[str, Any]) -> Compose:
    """Return what a recipe does to a record."""
    transforms: list[MapTransform] = [
        LoadScand("image"),
        ResampleToSpacingd("image", recipe["spacing"], recipe["slice_axis"]),
        Windowd("image", **recipe["window"]),
    ]
    if recipe["superpixels"] is not None:
        transforms += [
            CopyItemsd("image", names="regions"),
            ScaleIntensityd("regions"),  # z-scored volumes as well to [0, 1]
            Superpixelsd("regions", "regions", **recipe["superpixels"]),
        ]
    return Compose(transforms)


class StoredSlices(Dataset):
    """Random slices of a slice store, indexed by (index, seed) as the samplers of medssl draw them.

    Gives what :py:class:`medssl.data.SeededCacheDataset` gives for the same draws from the volumes themselves, but
    holds no volume in memory. Every slice is checked against what was written.

    Args:
        data: records; all must have been prepared.
        folder: of the store.
        recipe: from :py:func:`store_recipe`; must be that of the store, whose regions may go unread.
        slicer: draws the slices of a volume, such as :py:class:`medssl.transforms.RandPartSlices`; None for one slice.
        transform: what else is done to a slice: a dictionary of the record's entries, ``image`` :math:`(C, H, W)`,
            ``regions`` :math:`(1, H, W)` where there are any, ``index`` and ``depth``.

    Raises:
        FileNotFoundError: if there is no store, or a record's volume is not in it.
        ValueError: if the store was made by another recipe, or from another file than the record's, where that is at
            hand; when a slice is read, if the store is damaged there.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        folder: str | Path,
        recipe: Mapping[str, Any],
        slicer: Slicer | None = None,
        transform: Callable[[dict[str, Any]], Any] | Sequence[Callable] = (),
    ) -> None:
        folder = Path(folder)
        if not (folder / RECIPE).is_file():
            raise FileNotFoundError(f"no slice store in {folder}; write one by python -m medssl prepare.")
        # One store with regions serves methods that need none.
        check_recipe(folder, {name: value for name, value in recipe.items() if value is not None})
        self.names = ["image"] if recipe["superpixels"] is None else ["image", "regions"]
        if missing := [str(record["case_id"]) for record in data if not stored(record, folder).is_file()]:
            shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise FileNotFoundError(
                f"{len(missing)} of {len(data)} volumes are not in the store {folder} ({shown}); "
                "python -m medssl prepare writes what is missing."
            )
        self.data = [{key: value for key, value in record.items() if key != "frame"} for record in data]
        self.folder = folder
        self.facts = [json.loads(stored(record, folder).read_text(encoding="utf-8")) for record in data]
        for record, facts in zip(self.data, self.facts, strict=True):
            if Path(record["image"]).is_file() and facts["source"] != stamp(record):
                raise ValueError(
                    f"{folder} holds case {record['case_id']} of another file than {record['image']}, or the file has "
                    "changed since: run python -m medssl prepare again, and keep a store for each data set."
                )
        self.random = np.random.RandomState()
        self.slicer: Slicer = RandSlices() if slicer is None else slicer
        self.transform = transform if isinstance(transform, Compose) else Compose(transform)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int | Draw) -> Any:
        """Return the slices of a draw, or of a plain index with the random state as it stands."""
        if isinstance(index, tuple):
            index, seed = index
            self.random.seed(seed)
        self.slicer.set_random_state(state=self.random)
        share_random_state(self.transform, self.random)
        depth = self.depths()[index]
        self.slicer.randomize(depth)
        slices = [
            {**self.data[index], **self.read(index, place), "index": place, "depth": depth}
            for place in self.slicer.indices
        ]
        with untracked():
            return self.transform(slices)

    def depths(self) -> list[int]:
        """Number of slices of every volume."""
        return [facts["shape"][0] for facts in self.facts]

    def read(self, index: int, place: int) -> dict[str, Tensor]:
        """Return slice ``place`` of volume ``index``: ``image`` and, where there are any, ``regions``."""
        facts, path = self.facts[index], stored(self.data[index], self.folder)
        try:
            pixels = np.array(np.load(path.with_suffix(".npy"), mmap_mode="r")[place])  # (C, H, W)
        except (OSError, ValueError) as error:
            raise damaged(path.with_suffix(".npy"), place) from error
        if zlib.crc32(pixels.data) != facts["checksums"][place]:
            raise damaged(path.with_suffix(".npy"), place)
        found = {"image": torch.from_numpy(pixels)}
        if "regions" in self.names:
            begin, length = sum(facts["regions"][:place]), facts["regions"][place]
            with path.with_suffix(".regions").open("rb") as file:
                file.seek(begin)
                blob = file.read(length)
            try:
                regions = unpack(blob, pixels.shape[1:])
            except (zlib.error, ValueError) as error:
                raise damaged(path.with_suffix(".regions"), place) from error
            found["regions"] = torch.from_numpy(regions)
        return found


@contextmanager
def untracked() -> Iterator[None]:
    """Keep MONAI from tracking metadata in its transforms: a store has none, and that takes as long as the reading."""
    tracked = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(tracked)


def stored(record: Mapping[str, Any], folder: Path) -> Path:
    """Return the file that says a volume is whole; the others have its name with other endings."""
    return folder / VOLUMES / (quote(str(record["case_id"]), safe="") + ".json")


def stamp(record: Mapping[str, Any]) -> list[int]:
    """Return size and time of a record's file, by which a change is noticed."""
    status = Path(record["image"]).stat()
    return [status.st_size, status.st_mtime_ns]


def check_recipe(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Refuse a store that was made by another recipe."""
    found = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
    if differ := [
        f"{name} {found.get(name)}, not {recipe[name]}" for name in recipe if found.get(name) != recipe[name]
    ]:
        raise ValueError(
            f"{folder} was prepared with {'; '.join(differ)}: choose another folder, or the same settings."
        )


def pack(regions: Tensor) -> bytes:
    """Compress regions :math:`(H, W)`."""
    if regions.max() >= 2**16:
        raise ValueError(f"a slice may have 65,536 regions, got {int(regions.max()) + 1}; raise scale or min_size.")
    return zlib.compress(regions.numpy().astype("<u2").tobytes())


def unpack(blob: bytes, size: Sequence[int]) -> np.ndarray:
    """Return regions :math:`(1, H, W)`, int32; a blob that is damaged raises."""
    return np.frombuffer(zlib.decompress(blob), "<u2").reshape(1, *size).astype(np.int32)


def damaged(file: Path, place: int) -> ValueError:
    """Return the error for a slice that is not what was written."""
    return ValueError(f"slice {place} of {file} is damaged; delete the file's .json and run prepare again.")
