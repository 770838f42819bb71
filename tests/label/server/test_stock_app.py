"""A published bundle in the app that comes with MONAI Label, where there is no medssl."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="make test-label installs MONAI Label and runs these")

import requests
from monai.bundle import run

from medssl.data import write_phantoms
from medssl.publish import publish
from medssl.resources import resource

NAME = "heart_mr_segmentation"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), num_subjects=5)


@pytest.fixture(scope="module")
def scan(phantoms):
    return next((phantoms.parent / "imagesTr").iterdir())


@pytest.fixture(scope="module")
def learnt(phantoms, tmp_path_factory):
    """A run fine-tuned for a few steps."""
    configs = [str(resource(f"bundles/finetune/configs/{name}.yaml")) for name in ("train", "small", "every_label")]
    size = {"image_size": [64, 64], "crop_size": [64, 64], "width": 4, "max_epochs": 1, "steps_per_epoch": 5}
    output = tmp_path_factory.mktemp("run")
    run(config_file=configs, manifest_file=str(phantoms), output_dir=str(output), **size)
    return output


@pytest.fixture(scope="module")
def url(learnt, scan, tmp_path_factory):
    """Address of MONAI Label's own app with the bundle in it; medssl cannot be imported there."""
    root = tmp_path_factory.mktemp("stock")
    shutil.copytree(Path(sys.prefix) / "monailabel/sample-apps/monaibundle", root / "app")
    publish(learnt, NAME, root / "app" / "model")
    (root / "studies").mkdir()
    shutil.copy(scan, root / "studies" / "scan.nii.gz")
    stand_ins = root / "modules"
    (stand_ins / "torchvision").mkdir(parents=True)  # asked for at import, and for nothing that is done here
    (stand_ins / "torchvision/__init__.py").touch()
    (stand_ins / "torchvision/utils.py").write_text("make_grid = save_image = None\n")
    (stand_ins / "medssl.py").write_text("raise ImportError('a published bundle stands by itself')\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "monailabel.main", "start_server", "--app", "app", "--studies", "studies"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    for key, value in {"models": NAME, "zoo_source": "local", "sam2": "false"}.items():
        command += ["--conf", key, value]
    with (root / "log").open("w") as log:
        paths = os.environ | {"PYTHONPATH": str(stand_ins)}
        process = subprocess.Popen(command, cwd=root, stdout=log, stderr=log, env=paths)
    address = f"http://127.0.0.1:{port}"
    for _ in range(300):
        assert process.poll() is None, (root / "log").read_text()
        try:
            requests.get(f"{address}/info/", timeout=5)
            break
        except requests.ConnectionError:
            time.sleep(0.2)
    yield address
    process.kill()
    process.wait()


def test_the_bundle_is_listed_with_the_names_of_its_organs(url):
    model = requests.get(f"{url}/info/", timeout=30).json()["models"][NAME]
    assert model["type"] == "segmentation"
    assert model["labels"] == {"right ventricle": 1, "myocardium": 2, "left ventricle": 3}


def test_its_mask_is_that_of_the_run(url, learnt, scan, tmp_path):
    answer = requests.post(f"{url}/infer/{NAME}?image=scan&output=image", timeout=120)
    assert answer.status_code == 200, answer.text
    (tmp_path / "theirs.nii.gz").write_bytes(answer.content)
    (tmp_path / "scans").mkdir()
    shutil.copy(scan, tmp_path / "scans")
    config, folders = str(resource("bundles/finetune/configs/inference.yaml")), {"dataset_dir": str(tmp_path / "scans")}
    run(config_file=config, checkpoint=str(learnt / "model.pt"), output_dir=str(tmp_path), **folders)
    theirs, ours = nib.load(tmp_path / "theirs.nii.gz"), nib.load(next(tmp_path.glob("*_seg.nii.gz")))
    assert theirs.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(theirs.dataobj), np.asarray(ours.dataobj))
    np.testing.assert_array_equal(theirs.affine, nib.load(scan).affine)
