import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor, get_track_meta
from monai.transforms import CenterSpatialCropd

from medssl.__main__ import main
from medssl.data import (
    SeededCacheDataset,
    StoredSlices,
    load_manifest,
    prepare,
    pretrain_records,
    store_recipe,
    write_phantoms,
)
from medssl.data.slice_store import store_transform
from medssl.transforms import RandPartSlicesd, RandSlicesd

SUPERPIXELS = {"scale": 20.0, "sigma": 0.5, "min_size": 20}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Five phantoms, windowed to [0, 1] as CT is."""
    folder = tmp_path_factory.mktemp("phantoms")
    path = write_phantoms(folder, num_subjects=5)
    raw = json.loads(path.read_text())
    raw["window"] = {"hu": [0, 255]}
    path.write_text(json.dumps(raw))
    return load_manifest(path)


@pytest.fixture(scope="module")
def records(manifest):
    return pretrain_records(manifest, transductive=True)


@pytest.fixture(scope="module")
def recipe(manifest):
    return store_recipe((None, 3.0, 3.0), manifest.slice_axis, manifest.window, SUPERPIXELS)


@pytest.fixture(scope="module")
def full_store(records, recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    with ThreadPoolExecutor(1) as executor:
        prepare(records, folder, recipe, executor)
    return folder


@pytest.fixture
def store(full_store, tmp_path):
    """A store of one's own to damage."""
    shutil.copytree(full_store, tmp_path, dirs_exist_ok=True)
    return tmp_path


def rerun(records, folder, recipe):
    with ThreadPoolExecutor(1) as executor:
        prepare(records, folder, recipe, executor)


@pytest.mark.parametrize("slices", [RandSlicesd(["image", "regions"], 2), RandPartSlicesd(["image", "regions"], 3)])
def test_slices_are_those_of_the_volumes_bit_for_bit(slices, records, recipe, full_store):
    stored = StoredSlices(records, full_store, recipe, slices.slicer)
    chain = [*store_transform(recipe).transforms, slices]
    direct = SeededCacheDataset(records, chain, progress=False)
    assert stored.depths() == direct.depths()
    for draw in [(0, 11), (2, 12), (0, 13), (1, 11)]:
        for ours, theirs in zip(stored[draw], direct[draw], strict=True):
            assert (ours["index"], ours["depth"]) == (theirs["index"], theirs["depth"])
            assert ours["subject_id"] == theirs["subject_id"]
            for key in ("image", "regions"):
                assert ours[key].dtype == theirs[key].dtype
                assert torch.equal(ours[key], theirs[key])


def test_frames_of_one_file_are_volumes_of_their_own(recipe, tmp_path):
    voxels = np.random.default_rng(0).integers(0, 255, (24, 24, 4, 3)).astype(np.uint8)
    file = tmp_path / "cine.nii.gz"
    nib.save(nib.Nifti1Image(voxels, np.diag([3.0, 3.0, 8.0, 1.0])), file)
    frames = [{"case_id": f"a_{n}", "subject_id": "a", "image": str(file), "frame": n} for n in (1, 3)]
    plain = {**recipe, "superpixels": None}
    rerun(frames, tmp_path / "store", plain)
    stored = StoredSlices(frames, tmp_path / "store", plain)
    for number, frame in enumerate(frames):
        volume = store_transform(plain)(dict(frame))["image"]
        assert torch.equal(stored.read(number, 2)["image"], torch.as_tensor(volume[:, 2]))
    assert not torch.equal(stored.read(0, 2)["image"], stored.read(1, 2)["image"])


def test_transforms_of_slices_track_no_metadata_and_those_elsewhere_still_do(records, recipe, full_store):
    crop = CenterSpatialCropd(["image", "regions"], [8, 8])
    slices = StoredSlices(records, full_store, recipe, transform=crop)[0, 5]
    assert slices[0]["image"].shape == (1, 8, 8)
    assert not isinstance(slices[0]["image"], MetaTensor)
    assert get_track_meta()


def test_a_run_that_was_killed_and_given_again_leaves_the_store_of_one_that_was_not(
    manifest, records, full_store, tmp_path
):
    command = [sys.executable, "-m", "medssl", "prepare", str(manifest.path), "--output", str(tmp_path)]
    command += ["--workers", "1", "--spacing", "None", "3", "3", "--superpixels", "20", "0.5", "20"]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("volumes/*.json")):
        assert process.poll() is None
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert len(list(tmp_path.glob("volumes/*.json"))) < len(records)
    assert subprocess.run(command, check=False, stderr=subprocess.DEVNULL).returncode == 0
    for file in full_store.glob("volumes/*"):
        assert (tmp_path / "volumes" / file.name).read_bytes() == file.read_bytes()


def test_a_run_that_is_interrupted_starts_no_further_volume(records, recipe, tmp_path):
    started = []

    class Interrupted(Executor):
        def submit(self, write, *given):
            future = Future()
            started.append(future)
            if len(started) == 1:
                future.set_exception(BrokenProcessPool("its process died"))
            return future

    with pytest.raises(RuntimeError, match=r"a worker was killed, most often because memory ran out.*fewer --workers"):
        prepare(records, tmp_path, recipe, Interrupted())
    assert all(future.cancelled() for future in started[1:])


def test_a_volume_that_was_not_whole_is_written_again_and_no_other(records, recipe, store):
    stamps = {file.name: file.stat().st_mtime_ns for file in store.glob("volumes/*.npy")}
    first, second = sorted(store.glob("volumes/*.npy"))[:2]
    first.with_suffix(".json").unlink()  # it died before the volume was whole
    second.with_name(f"part_{second.name}").write_bytes(b"half a volume")
    rerun(records, store, recipe)
    written = {file.name for file in store.glob("volumes/*.npy") if file.stat().st_mtime_ns != stamps.get(file.name)}
    assert first.name in written
    assert second.name not in written
    assert len(StoredSlices(records, store, recipe)) == len(records)


def test_a_volume_whose_file_has_changed_is_written_anew(manifest, recipe, tmp_path):
    source = tmp_path / "scan.nii.gz"
    record = pretrain_records(manifest, transductive=True)[0]
    source.write_bytes(Path(record["image"]).read_bytes())
    changed = [{**record, "image": str(source)}]
    rerun(changed, tmp_path / "store", recipe)
    before = StoredSlices(changed, tmp_path / "store", recipe).read(0, 0)["image"]
    other = pretrain_records(manifest, transductive=True)[-1]
    source.write_bytes(Path(other["image"]).read_bytes())
    rerun(changed, tmp_path / "store", recipe)
    assert not torch.equal(StoredSlices(changed, tmp_path / "store", recipe).read(0, 0)["image"], before)


@pytest.mark.parametrize("ending", [".npy", ".regions"])
def test_a_flipped_byte_is_noticed_when_its_slice_is_read(records, recipe, store, ending):
    stored = StoredSlices(records, store, recipe)
    file = sorted(store.glob(f"volumes/*{ending}"))[0]
    content = bytearray(file.read_bytes())
    content[-9] ^= 1  # in the last slice
    file.write_bytes(content)
    index = next(i for i, record in enumerate(records) if record["case_id"] == file.stem)
    last = stored.depths()[index] - 1
    with pytest.raises(ValueError, match=rf"slice {last} of .*{ending} is damaged.*run prepare again"):
        stored.read(index, last)
    stored.read(index, 0)


def test_a_file_that_was_cut_short_is_noticed(records, recipe, store):
    file = sorted(store.glob("volumes/*.npy"))[0]
    file.write_bytes(file.read_bytes()[:1000])
    index = next(i for i, record in enumerate(records) if record["case_id"] == file.stem)
    with pytest.raises(ValueError, match=r"slice 0 of .*npy is damaged"):
        StoredSlices(records, store, recipe).read(index, 0)


def test_the_store_of_another_data_set_is_not_read_for_this_one(records, recipe, store):
    swapped = [{**records[0], "image": records[-1]["image"]}]  # the same case_id, another scan
    with pytest.raises(ValueError, match=r"of another file than .* keep a store for each data set"):
        StoredSlices(swapped, store, recipe)


def test_a_recipe_of_super_pixels_is_whole_or_refused(recipe):
    given = recipe["spacing"], recipe["slice_axis"], recipe["window"]
    assert store_recipe(*given, {"scale": 5.0})["superpixels"] == {"scale": 5.0, "sigma": 0.5, "min_size": 50}
    with pytest.raises(TypeError, match="unexpected keyword argument 'minsize'"):
        store_recipe(*given, {"scale": 5.0, "minsize": 9})


def test_another_recipe_is_refused_by_writer_and_reader(records, recipe, store):
    other = {**recipe, "spacing": [None, 2.0, 2.0]}
    with pytest.raises(ValueError, match=r"prepared with spacing \[None, 3.0, 3.0\], not \[None, 2.0, 2.0\]"):
        rerun(records, store, other)
    with pytest.raises(ValueError, match=r"prepared with versions .*, not {'monai': '0.0.1'}"):
        StoredSlices(records, store, {**recipe, "versions": {"monai": "0.0.1"}})
    with pytest.raises(ValueError, match="choose another folder, or the same settings"):
        StoredSlices(records, store, other)


def test_a_method_without_regions_reads_a_store_that_has_them(manifest, records, recipe, full_store):
    plain = store_recipe(recipe["spacing"], manifest.slice_axis, manifest.window)
    found = StoredSlices(records, full_store, plain).read(0, 3)
    assert list(found) == ["image"]
    assert torch.equal(found["image"], StoredSlices(records, full_store, recipe).read(0, 3)["image"])


def test_a_missing_volume_is_named(records, recipe, store):
    sorted(store.glob("volumes/*.npy"))[0].with_suffix(".json").unlink()
    with pytest.raises(FileNotFoundError, match=rf"1 of {len(records)} volumes are not in the store"):
        StoredSlices(records, store, recipe)
    with pytest.raises(FileNotFoundError, match=r"no slice store in .*medssl prepare"):
        StoredSlices(records, store / "nowhere", recipe)


def test_one_bad_volume_stops_no_other_and_is_named(records, recipe, tmp_path):
    bad = tmp_path / "bad.nii.gz"
    scan = nib.load(records[0]["image"])
    voxels = scan.get_fdata()
    voxels[0, 0, 0] = np.nan
    nib.save(nib.Nifti1Image(voxels, scan.affine), bad)
    wrong = [{"case_id": "broken", "image": str(bad)}, {"case_id": "gone", "image": str(tmp_path / "gone.nii.gz")}]
    with pytest.raises(RuntimeError, match=r"2 of 3 volumes could not be prepared") as error:
        rerun([*wrong, records[0]], tmp_path / "store", recipe)
    assert re.search(r"case broken \(.*bad.nii.gz\): .*finite", str(error.value))
    assert re.search(r"case gone \(.*gone.nii.gz\): .*No such file", str(error.value))
    assert len(StoredSlices(records[:1], tmp_path / "store", recipe)) == 1


def test_case_names_never_leave_the_folder(records, recipe, tmp_path):
    odd = [{**records[0], "case_id": "../../escape é"}]
    rerun(odd, tmp_path / "a" / "store", recipe)
    assert len(StoredSlices(odd, tmp_path / "a" / "store", recipe)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["store"]


def test_regions_take_little_room(full_store):
    files = list(full_store.glob("volumes/*.regions"))
    assert files
    for file in files:
        depth, _, height, width = np.load(file.with_suffix(".npy"), mmap_mode="r").shape
        assert file.stat().st_size < 0.1 * 2 * depth * height * width


def test_the_command_prepares_what_a_manifest_names(manifest, recipe, records, tmp_path, caplog):
    arguments = [
        "prepare",
        str(manifest.path),
        "--output",
        str(tmp_path),
        "--workers",
        "1",
        "--spacing",
        "None",
        "3",
        "3",
    ]
    assert main([*arguments, "--superpixels", "20", "0.5", "20"]) == 0
    assert len(StoredSlices(records, tmp_path, recipe)) == len(records)
    assert main([*arguments, "--superpixels", "20", "0.5", "21"]) == 1
    assert "prepared with superpixels" in caplog.text
