"""Volumes resampled and windowed once, and their regions; a slice is then read without touching its volume."""

import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, as_completed
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from monai.transforms import Compose, CopyItemsd, LoadImaged, MapTransform, ScaleIntensityd
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from medssl.atomic import replace
from medssl.data.samplers import Draw
from medssl.data.seeded_dataset import root_cause, share_random_state
from medssl.transforms import RandSlices, ResampleToSpacingd, Superpixelsd, Windowd

LAYOUT = 2  # of the files; another layout is another number
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
    """
    recipe = {"layout": LAYOUT, "spacing": list(spacing), "slice_axis": slice_axis, "window": dict(window)}
    return dict(json.loads(json.dumps({**recipe, "superpixels": superpixels and dict(superpixels)})))


def store_transform(recipe: Mapping[str, Any]) -> Compose:
    """Return what a recipe does to a record."""
    transforms: list[MapTransform] = [
        LoadImaged("image", reader="NibabelReader", ensure_channel_first=True),
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


def prepare(
    records: Iterable[Mapping[str, Any]], folder: str | Path, recipe: Mapping[str, Any], executor: Executor
) -> None:
    """Write what is missing of a slice store.

    A volume is written to files of its own, the one that says it is whole last: a run that was killed goes on where
    it was. A volume whose file has changed since is written anew.

    Args:
        records: of a manifest.
        folder: of the store.
        recipe: from :py:func:`store_recipe`.
        executor: any that follows ``concurrent.futures``: a pool of processes, or a Dask client's for a cluster.

    Raises:
        ValueError: if the folder holds a store of another recipe.
        RuntimeError: at the end, naming every volume that could not be written, and why.
    """
    folder, every = Path(folder), list(records)
    (folder / VOLUMES).mkdir(parents=True, exist_ok=True)
    if (folder / RECIPE).is_file():
        check_recipe(folder, recipe)
    text = json.dumps(recipe, indent=1)
    replace(folder / RECIPE, lambda file: file.write_text(text, encoding="utf-8"))
    missing = [record for record in every if not is_stored(record, folder)]
    futures = {executor.submit(write_volume, record, folder, recipe): record for record in missing}
    failed: list[str] = []
    try:
        with tqdm(total=len(every), initial=len(every) - len(missing), desc="preparing", unit="volume") as bar:
            for future in as_completed(futures):
                if (error := future.exception()) is not None:
                    record = futures[future]
                    failed.append(f"case {record['case_id']} ({record['image']}): {error}")
                bar.update()
    finally:  # interrupted: the executor would still write what is queued
        for future in futures:
            future.cancel()
    if failed:
        raise RuntimeError(
            "\n".join([f"{len(failed)} of {len(every)} volumes could not be prepared:", *sorted(failed)])
        )


def write_volume(record: Mapping[str, Any], folder: Path, recipe: Mapping[str, Any]) -> None:
    """Prepare one volume."""
    source = stamp(record)
    try:
        data = store_transform(recipe)({"image": record["image"]})
    except Exception as error:
        # From None: the causes of an error do not come back from another process.
        raise ValueError(str(root_cause(error))) from None
    image = np.ascontiguousarray(torch.as_tensor(data["image"]).movedim(1, 0).numpy())  # (V, C, H, W)
    facts = {"source": source, "shape": image.shape, "checksums": [zlib.crc32(pixels.data) for pixels in image]}
    path = stored(record, folder)
    replace(path.with_suffix(".npy"), lambda file: save(file, image))
    if "regions" in data:
        blobs = [pack(regions) for regions in torch.as_tensor(data["regions"])[0]]
        replace(path.with_suffix(".regions"), lambda file: file.write_bytes(b"".join(blobs)))
        facts["regions"] = [len(blob) for blob in blobs]
    text = json.dumps(facts)
    replace(path, lambda file: file.write_text(text, encoding="utf-8"))


class StoredSlices(Dataset):
    """Random slices of a slice store, indexed by (index, seed) as the samplers of medssl draw them.

    Gives what :py:class:`medssl.data.SeededCacheDataset` gives for the same draws from the volumes themselves, but
    holds no volume in memory. Every slice is checked against what was written.

    Args:
        data: records; all must have been prepared.
        folder: of the store.
        recipe: from :py:func:`store_recipe`; must be that of the store, whose regions may go unread.
        num_samples: slices of a volume a draw gives, a list of them where it is more than one.
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
        num_samples: int = 1,
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
        self.data, self.folder = list(data), folder
        self.facts = [json.loads(stored(record, folder).read_text(encoding="utf-8")) for record in data]
        for record, facts in zip(self.data, self.facts, strict=True):
            if Path(record["image"]).is_file() and facts["source"] != stamp(record):
                raise ValueError(
                    f"{folder} holds case {record['case_id']} of another file than {record['image']}, or the file has "
                    "changed since: run python -m medssl prepare again, and keep a store for each data set."
                )
        self.random = np.random.RandomState()
        self.slicer = RandSlices(num_samples)
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


def stored(record: Mapping[str, Any], folder: Path) -> Path:
    """Return the file that says a volume is whole; the others have its name with other endings."""
    return folder / VOLUMES / (quote(str(record["case_id"]), safe="") + ".json")


def is_stored(record: Mapping[str, Any], folder: Path) -> bool:
    """Whether a volume is in the store as its file now is."""
    try:
        return bool(json.loads(stored(record, folder).read_text(encoding="utf-8"))["source"] == stamp(record))
    except (OSError, ValueError):  # neither written nor readable: to be written
        return False


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


def save(file: Path, array: np.ndarray) -> None:
    """Write a ``.npy`` file; by its path NumPy would add an ending."""
    with file.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)


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
