"""Write a slice store: every volume resampled, windowed and cut into regions once."""

import json
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import BrokenExecutor, Executor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from medssl.atomic import replace
from medssl.data.seeded_dataset import root_cause
from medssl.data.slice_store import RECIPE, VOLUMES, check_recipe, pack, stamp, store_transform, stored


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
        ValueError: if the folder is a file, or holds volumes of another recipe.
        RuntimeError: at the end, naming every volume that could not be written, and why; at once, if a worker died.
    """
    folder, every = Path(folder), list(records)
    if folder.is_file():
        raise ValueError(f"a slice store is a folder, {folder} is a file; give another --output.")
    (folder / VOLUMES).mkdir(parents=True, exist_ok=True)
    if (folder / RECIPE).is_file() and any((folder / VOLUMES).glob("*.json")):
        check_recipe(folder, recipe)
    text = json.dumps(recipe, indent=1)
    replace(folder / RECIPE, lambda file: file.write_text(text, encoding="utf-8"))
    missing = [record for record in every if not is_stored(record, folder)]
    futures = {executor.submit(write_volume, record, folder, recipe): record for record in missing}
    failed: list[str] = []
    try:
        with tqdm(total=len(every), initial=len(every) - len(missing), desc="preparing", unit="volume") as bar:
            for future in as_completed(futures):
                error = future.exception()
                if isinstance(error, BrokenExecutor):
                    raise RuntimeError(
                        "a worker was killed, most often because memory ran out; give the same command with fewer "
                        "--workers: it goes on where it was."
                    ) from error
                if error is not None:
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
        data = store_transform(recipe)(dict(record))
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


def is_stored(record: Mapping[str, Any], folder: Path) -> bool:
    """Whether a volume is in the store as its file now is."""
    try:
        return bool(json.loads(stored(record, folder).read_text(encoding="utf-8"))["source"] == stamp(record))
    except (OSError, ValueError):  # neither written nor readable: to be written
        return False


def save(file: Path, array: np.ndarray) -> None:
    """Write a ``.npy`` file; by its path NumPy would add an ending."""
    with file.open("wb") as stream:
        np.save(stream, array, allow_pickle=False)
