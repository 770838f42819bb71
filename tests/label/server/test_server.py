"""The annotation server over HTTP, as viewers use it. ``make test-label`` runs this where MONAI Label is installed."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("monailabel", reason="make test-label installs MONAI Label and runs these")

import requests
from monailabel.client import MONAILabelClient

from medssl.data import write_phantoms
from medssl.label.server import check_host, check_port, configure

TINY = {"max_epochs": 1, "steps_per_epoch": 5}


@pytest.fixture(scope="session")
def scans(tmp_path_factory):
    """Eight scans, their labels and the labels' names: hippocampi where they are at hand, phantoms elsewhere."""
    real = Path(os.environ.get("MEDSSL_DATA", "data")) / "hippocampus_mr"
    if real.is_dir():
        images = sorted((real / "imagesTr").glob("*.nii.gz"))[:8]
        return [(image, real / "labelsTr" / image.name) for image in images], "anterior,posterior"
    folder = write_phantoms(tmp_path_factory.mktemp("phantoms"), num_subjects=8).parent
    images = sorted((folder / "imagesTr").glob("*_ed.nii.gz"))
    return [(image, folder / "labelsTr" / image.name) for image in images], "rv,myocardium,lv"


class Server:
    """The server in a process of its own."""

    def __init__(self, studies, labels):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.studies, self.labels = studies, labels
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = MONAILabelClient(self.url)
        self.process = None

    def start(self):
        command = [sys.executable, "-m", "medssl.label.server", str(self.studies), "--labels", self.labels]
        command += ["--modality", "MR"]
        log = (self.studies.parent / "server.log").open("a")
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port)], stdout=log, stderr=log, start_new_session=True
        )
        log.close()
        for _ in range(600):
            assert self.process.poll() is None, (self.studies.parent / "server.log").read_text()
            try:
                self.client.info()
                return
            except Exception:
                time.sleep(0.2)
        raise TimeoutError("the server did not answer")

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def train(self, model, **options):
        self.client.train_start(model, options)
        while (status := self.client.train_status())["status"] in ("SUBMITTED", "RUNNING"):
            time.sleep(0.5)
        assert status["status"] == "DONE", "\n".join(status["details"])


@pytest.fixture(scope="module")
def server(scans, tmp_path_factory):
    pairs, labels = scans
    studies = tmp_path_factory.mktemp("server") / "studies"
    studies.mkdir()
    for image, _ in pairs:
        shutil.copy(image, studies)
    (studies / "broken.nii.gz").write_bytes(pairs[0][0].read_bytes()[:-200])
    server = Server(studies, labels)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def truth(scans):
    return {image.name.removesuffix(".nii.gz"): label for image, label in scans[0]}


def dice(mask, label):
    predicted, true = (np.asarray(nib.load(file).dataobj) > 0 for file in (mask, label))
    return 2 * (predicted & true).sum() / (predicted.sum() + true.sum())


def test_the_whole_loop_from_unlabelled_scans_to_a_better_proposal(server, truth):
    client = server.client
    assert "not yet" in requests.get(f"{server.url}/scans/", timeout=60).text
    assert "press pretrain" in client.next_sample("first_scans", {})["why"]
    with pytest.raises(Exception, match="no network has been fine-tuned yet"):
        client.infer("segmentation", next(iter(truth)), {})
    server.train("pretrain", method="pcl", num_slices=4, **TINY)
    chosen = []
    for _ in range(2):
        sample = client.next_sample("first_scans", {})
        assert "stands for" in sample["why"]
        assert len(sample["slices"]) == 3
        client.save_label(sample["id"], str(truth[sample["id"]]), "final", {})
        chosen.append(sample["id"])
    assert len(set(chosen)) == 2
    page = requests.get(f"{server.url}/scans/", timeout=60).text
    assert f"{len(truth) + 1} scans" in page
    assert "2 annotated" in page
    assert "stands for" in page
    assert "broken" in page  # and why it is left out
    picture = requests.get(f"{server.url}/scans/map.png", timeout=60).content
    assert picture.startswith(b"\x89PNG")
    server.train("finetune", **TINY)
    sample = client.next_sample("next_scan", {})
    assert "uncertainty" in sample["why"]
    before, facts = client.infer("segmentation", sample["id"], {})
    assert facts["label_names"] == {name: number for number, name in enumerate(server.labels.split(","), start=1)}
    mask, image = nib.load(before), nib.load(server.studies / f"{sample['id']}.nii.gz")
    assert mask.shape == image.shape
    assert mask.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(mask.affine, image.affine)
    for case in [case for case in truth if case not in (*chosen, sample["id"])]:
        client.save_label(case, str(truth[case]), "final", {})
    server.train("finetune", max_epochs=4, steps_per_epoch=40)
    last = client.next_sample("next_scan", {})  # of what is not annotated one is proposed, and one is no scan
    assert last["id"] == sample["id"]
    after, _ = client.infer("segmentation", sample["id"], {})
    assert dice(after, truth[sample["id"]]) > dice(before, truth[sample["id"]]) + 0.1


def contents(folder):
    """What lies in a folder, but for logs and locks."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.suffix not in (".log", ".lock")]
    return {str(file.relative_to(folder)): (file.stat().st_size, file.stat().st_mtime_ns) for file in files}


@pytest.mark.parametrize(
    ("method", "path", "params", "status"),
    [
        ("put", "/datastore/label?image=ID&tag=../../../outside", {}, 400),
        ("put", "/datastore/label?image=ID&tag=elsewhere", {}, 400),
        ("post", "/infer/segmentation?image=/etc/hostname", {}, 400),
        ("post", "/infer/segmentation?image=nobody", {}, 404),
        ("post", "/infer/segmentation?image=ID", {"image": "OUTSIDE"}, 404),
        ("post", "/infer/segmentation?image=ID", {"save_label": True, "label_tag": "../../../outside"}, None),
        ("post", "/infer/segmentation?image=ID", {"save_label": True, "label_tag": "final"}, None),
        ("put", "/datastore/image?image=ID", {}, 404),
        ("delete", "/datastore/image?id=ID", {}, 404),
        ("delete", "/datastore/label?id=ID&tag=final", {}, 404),
        ("put", "/model/segmentation", {}, 404),
    ],
)
def test_requests_do_not_leave_the_folder_nor_replace_what_is_there(method, path, params, status, server, truth):
    case, label = next(iter(truth.items()))
    outside = server.studies.parent / "outside.nii.gz"
    shutil.copy(server.studies / f"{case}.nii.gz", outside)
    before = contents(server.studies.parent)
    files = {key: ("x.nii.gz", label.read_bytes()) for key in ("file", "label")} if method == "put" else None
    told = {"params": json.dumps(params).replace("OUTSIDE", str(outside))}
    answer = requests.request(method, server.url + path.replace("ID", case), data=told, files=files, timeout=60)
    assert status is None or answer.status_code == status, answer.text
    after = contents(server.studies.parent)
    proposals = {name for name in after if name.startswith(("studies/labels/original", "studies/datastore_v2.json"))}
    assert after.keys() - before.keys() <= proposals
    assert all(after[name] == before[name] for name in before.keys() - proposals)


def test_a_training_runs_no_code_of_a_request(server):
    server.client.train_start("finetune", {"max_epochs": "$__import__('pathlib').Path('ran').touch()"})
    while (status := server.client.train_status())["status"] in ("SUBMITTED", "RUNNING"):
        time.sleep(0.2)
    assert status["status"] == "ERROR"
    assert "max_epochs must be a whole number of at least 1" in "\n".join(status["details"])
    assert not Path("ran").exists()


def test_the_log_tells_how_a_training_goes(server):
    assert "fine-tuning" in requests.get(f"{server.url}/logs/?lines=1000&html=false", timeout=60).text


@pytest.mark.parametrize("fault", ["shape", "place", "ids", "cut"])
def test_a_label_that_cannot_be_learnt_from_is_refused_when_it_comes(fault, server, truth, tmp_path):
    case, label = next(iter(truth.items()))
    good = nib.load(label)
    voxels, affine = np.asarray(good.dataobj).copy(), good.affine.copy()
    if fault == "shape":
        voxels = voxels[1:]
    if fault == "place":
        affine[:3, 3] += 30
    if fault == "ids":
        voxels[0, 0, 0] = 9
    file = tmp_path / "label.nii.gz"
    nib.save(nib.Nifti1Image(voxels, affine), file)
    if fault == "cut":
        file.write_bytes(file.read_bytes()[:-20])
    kept = server.studies / "labels" / "final" / f"{case}.nii.gz"
    before = kept.read_bytes() if kept.exists() else None
    with pytest.raises(Exception, match="Status: 400"):
        server.client.save_label(case, str(file), "final", {})
    assert (kept.read_bytes() if kept.exists() else None) == before


def test_killed_at_any_moment_it_loses_no_annotation(scans, truth, tmp_path):
    studies = tmp_path / "studies"
    studies.mkdir()
    for image, _ in scans[0]:
        shutil.copy(image, studies)
    server, kept = Server(studies, scans[1]), set()

    def save_all():
        for case, label in truth.items():
            try:
                server.client.save_label(case, str(label), "final", {})
            except Exception:  # the server is gone
                return
            kept.add(case)

    for moment in (0.05, 0.2, 0.4):
        server.start()
        saving = threading.Thread(target=save_all)
        saving.start()
        time.sleep(moment)
        server.kill()
        saving.join()
        json.loads((studies / "datastore_v2.json").read_text())
        for case in kept:
            np.testing.assert_array_equal(
                nib.load(studies / "labels" / "final" / f"{case}.nii.gz").dataobj, nib.load(truth[case]).dataobj
            )
    for damage in ('{"name": "cut o', "{}"):  # as others leave it
        (studies / "datastore_v2.json").write_text(damage)
        server.start()
        try:
            assert server.client.info()["datastore"]["completed"] >= len(kept)
        finally:
            server.kill()


def test_what_cannot_be_served_says_why(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        configure(tmp_path / "nowhere", "liver")
    with pytest.raises(FileNotFoundError, match=r"there is no .nii or .nii.gz in"):
        configure(tmp_path, "liver")
    (tmp_path / "scan.nii").touch()
    (tmp_path / "scan.nii.gz").touch()
    with pytest.raises(ValueError, match=r"scan: the \.nii and the \.nii\.gz are one scan"):
        configure(tmp_path, "liver")
    (tmp_path / "scan.nii.gz").unlink()
    with pytest.raises(ValueError, match=r"pattern must have the field \{subject\}"):
        configure(tmp_path, "liver", pattern="{case}")
    for wrong in ("liver,,spleen", "liver,Liver"):
        with pytest.raises(ValueError, match="labels must be different names separated by commas"):
            configure(tmp_path, wrong)
    with pytest.raises(ValueError, match=r"pattern '\{subject\}_\{visit\}' fits none of the scans, such as scan\."):
        configure(tmp_path, "liver", pattern="{subject}_{visit}")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(OSError, match=r"cannot be served on .*; give another one by --port"):
            check_port("127.0.0.1", taken.getsockname()[1])
    assert [file.name for file in tmp_path.iterdir()] == ["scan.nii"]


def test_a_folder_keeps_the_organs_that_it_was_annotated_with(tmp_path):
    (tmp_path / "scan.nii").touch()
    configure(tmp_path, "lver,spleen").release()
    configure(tmp_path, "liver,spleen").release()  # nothing is annotated yet
    (tmp_path / "labels" / "final").mkdir(parents=True)
    (tmp_path / "labels" / "final" / "scan.nii.gz").touch()
    for others in ("spleen,liver", "liver"):
        with pytest.raises(ValueError, match="was annotated with liver,spleen: give these first, new ones after them"):
            configure(tmp_path, others)
    configure(tmp_path, "liver,spleen,kidney").release()


def test_a_folder_is_served_once(tmp_path):
    (tmp_path / "scan.nii").touch()
    with configure(tmp_path, "liver"), pytest.raises(ValueError, match="is served already; stop that server first"):
        configure(tmp_path, "liver")


def test_segments_are_told_by_their_names_whatever_their_numbers(server, truth, tmp_path):
    case, label = next(iter(truth.items()))
    good, names = nib.load(label), server.labels.split(",")
    kept = server.studies / "labels" / "final" / f"{case}.nii.gz"
    voxels = np.asarray(good.dataobj).astype(np.uint8)
    turned = np.where(voxels > 0, len(names) + 1 - voxels, 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(turned, good.affine), tmp_path / "turned.nii.gz")
    told = [{"name": name.upper(), "idx": len(names) - number} for number, name in enumerate(names)]
    server.client.save_label(case, str(tmp_path / "turned.nii.gz"), "final", {"label_info": told})
    np.testing.assert_array_equal(np.asarray(nib.load(kept).dataobj), voxels)
    with pytest.raises(Exception, match=r"segments must be named .*, got liver; rename them"):
        server.client.save_label(case, str(label), "final", {"label_info": [{"name": "liver", "idx": 1}]})
    with pytest.raises(Exception, match=rf"a label of {case} holds"):  # of an organ that is not among the segments
        server.client.save_label(case, str(label), "final", {"label_info": told[:1]})
    np.testing.assert_array_equal(np.asarray(nib.load(kept).dataobj), voxels)


def test_nobody_is_served_from_elsewhere_without_a_login():
    for own in ("127.0.0.1", "localhost", "::1"):
        check_host(own, authenticated=False)
    for open_to_all in ("0.0.0.0", "192.168.0.7", "myhost", "::"):
        with pytest.raises(ValueError, match=r"serve on 127.0.0.1, or set MONAI_LABEL_AUTH_ENABLE"):
            check_host(open_to_all, authenticated=False)
    check_host("0.0.0.0", authenticated=True)
