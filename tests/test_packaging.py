import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = ["bundles/finetune/configs/train.yaml", "bundles/pretrain/docs/README.md", "data_manifests/acdc.json"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel that ``pip install .`` would install."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-deps", "--no-build-isolation", "--quiet", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def path_of(name, cwd, **environment):
    """What ``python -m medssl path NAME`` prints in another folder."""
    command = [sys.executable, "-m", "medssl", "path", name]
    done = subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


@pytest.mark.parametrize("name", SHIPPED)
def test_an_installed_wheel_holds_bundles_and_manifests(name, wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    assert path_of(name, tmp_path, PYTHONPATH=str(tmp_path / "site")) == tmp_path / "site" / "medssl" / name


@pytest.mark.parametrize("name", SHIPPED)
def test_an_editable_install_finds_them_in_the_checkout(name, tmp_path):
    assert path_of(name, tmp_path) == ROOT / name


def test_the_wheel_holds_every_module(wheel):
    with zipfile.ZipFile(wheel) as archive:
        shipped = set(archive.namelist())
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "medssl").rglob("*.py")} <= shipped


def test_the_wheel_leaves_tests_and_results_at_home(wheel):
    with zipfile.ZipFile(wheel) as archive:
        folders = {name.split("/")[0] for name in archive.namelist()}
    assert folders - {"medssl"} == {folder for folder in folders if folder.endswith(".dist-info")}
