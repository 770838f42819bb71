import nibabel as nib
import numpy as np
import pytest

from medssl.data import load_manifest, write_phantoms
from medssl.resources import resource

NAMES = sorted(path.stem for path in resource("data_manifests").glob("*.json") if path.stem != "schema")


@pytest.mark.parametrize("name", NAMES)
def test_every_manifest_is_sound(name):
    manifest = load_manifest(name, check_files=False)
    assert manifest.training
    assert resource(f"data_manifests/{name}.json").stem == manifest.name


@pytest.mark.parametrize(
    ("name", "subjects"),
    [
        pytest.param("acdc_cardiac_mr", 65, marks=pytest.mark.data("acdc_cardiac_mr")),
        pytest.param("hippocampus_mr", 113, marks=pytest.mark.data("hippocampus_mr")),
        pytest.param("openkbp_han_ct", 50, marks=pytest.mark.data("openkbp_han_ct")),
    ],
)
def test_the_packs_hold_what_their_manifests_say(name, subjects, pack):
    manifest = load_manifest(name, pack)
    assert len({record["subject_id"] for record in manifest.training}) == subjects
    for record in manifest.training[::25]:
        image, label = nib.load(record["image"]), nib.load(record["label"])
        assert image.shape == label.shape
        found = set(np.unique(np.asarray(label.dataobj)).tolist())
        assert found <= set(manifest.labels)
        assert found - {0} <= set(record.get("known_classes", manifest.labels))


def test_phantoms_are_what_their_shipped_manifest_says(tmp_path):
    assert write_phantoms(tmp_path).read_bytes() == resource("data_manifests/phantoms.json").read_bytes()
    manifest = load_manifest("phantoms", tmp_path)
    assert len(manifest.training) == 40
