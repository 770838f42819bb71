import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pandas as pd
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the README's quick start was run, word for word."""
    script = "\n".join(re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL))
    folder = tmp_path_factory.mktemp("quick_start")
    run_in(folder, script)
    return folder


def run_in(folder, script):
    """Run a page's commands."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(command, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_quick_start_pretrains_finetunes_and_measures(folder):
    assert (folder / "runs" / "sal" / "model.json").is_file()
    rows = pd.read_csv(folder / "runs" / "sal_2" / "metrics.csv")
    assert rows["case_id"].nunique() == 8
    assert rows["dice"].between(0, 1).all()


def test_the_quick_start_segments_every_scan_on_its_own_grid(folder):
    scans = sorted((folder / "data" / "phantoms" / "imagesTr").iterdir())
    assert len(scans) == 40
    for scan in scans:
        image = nib.load(scan)
        mask = nib.load(folder / "masks" / scan.name.replace(".nii", "_seg.nii"))
        assert mask.shape == image.shape
        assert (mask.affine == image.affine).all()


def test_the_parts_work_in_other_peoples_code(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    names = {}
    exec(block, names)
    assert [s["image"].shape[0] for s in names["slices"]] == [1] * 8
    assert names["loss"].isfinite()


def test_the_page_on_methods_of_ones_own_makes_one_that_trains(folder):
    page = (ROOT / "docs" / "methods" / "your_own.md").read_text(encoding="utf-8")
    for kind, file in (("python", "barlow_twins.py"), ("yaml", "barlow_twins.yaml")):
        (block,) = re.findall(rf"```{kind}\n(.*?)```", page, flags=re.DOTALL)
        (folder / file).write_text(block)
    (script,) = re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL)
    run_in(folder, script)
    receipt = json.loads((folder / "runs" / "barlow_twins" / "model.json").read_text())
    assert receipt["method"] == "BarlowTwins"
    assert receipt["redundancy_weight"] == 0.005
    assert "agreement" in pd.read_csv(folder / "runs" / "barlow_twins" / "scalars.csv")


MADE = {"build", "demo", "runs"}
PAGES = [p for p in ROOT.rglob("*.md") if not any(d in MADE or d[0] == "." for d in p.relative_to(ROOT).parts)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if "://" not in target and not (page.parent / target).exists()] == []
