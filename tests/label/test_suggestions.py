import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.image import imread
from monai.bundle import run

from medssl.__main__ import main
from medssl.data import load_manifest, write_phantoms
from medssl.label import SliceFeatures, embed_pool, representative_slices, scan_embeddings, slice_features, suggest
from medssl.resources import resource

TINY = {"image_size": [32, 32], "width": 4, "max_epochs": 1, "steps_per_epoch": 1}


def train(bundle, methods, manifest, output, **options):
    configs = [str(resource(f"bundles/{bundle}/configs/{name}.yaml")) for name in ("train", *methods, "small")]
    data = {"manifest_file": str(manifest), "output_dir": str(output)}
    run(config_file=configs, bundle_root=str(output), **data, **TINY, **options)
    return output / "model.pt"


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """Six subjects of two scans; of all but the first three the labels are not told."""
    path = write_phantoms(tmp_path_factory.mktemp("phantoms"), num_subjects=6)
    raw = json.loads(path.read_text())
    raw["unlabeled"] = [{k: v for k, v in r.items() if k not in ("label", "fold")} for r in raw["training"][6:]]
    raw["training"] = [{k: v for k, v in r.items() if k != "fold"} for r in raw["training"][:6]]
    path = path.with_name("some_labels.json")
    path.write_text(json.dumps(raw))
    return path


@pytest.fixture(scope="module")
def checkpoint(phantoms, tmp_path_factory):
    return train("pretrain", ["pcl"], phantoms, tmp_path_factory.mktemp("pcl"), num_slices=4, fold=None)


@pytest.fixture(scope="module")
def pool(phantoms, checkpoint, tmp_path_factory):
    return embed_pool(load_manifest(phantoms), checkpoint, tmp_path_factory.mktemp("scans"))


def test_only_scans_without_a_label_are_suggested_one_a_subject_first(pool):
    ranked = list(suggest(pool))
    assert len(ranked) == 6
    assert not {one.case_id for one in ranked} & {pool.records[place]["case_id"] for place in pool.annotated}
    assert len({one.subject_id for one in ranked[:3]}) == 3


def test_the_first_suggestions_are_the_same_however_many_are_asked_for(pool):
    assert [one.case_id for one in suggest(pool, 2)] == [one.case_id for one in suggest(pool)][:2]


def test_the_reason_names_the_nearest_scan_before_it(pool):
    annotated = {pool.records[place]["case_id"] for place in pool.annotated}
    first, second = suggest(pool, 2)
    assert first.nearest in annotated
    assert second.nearest in annotated | {first.case_id}
    assert f"stands for {first.nearer} scan" in first.why
    assert f"nearest before it is {first.nearest}, at {first.distance:.2f} of the median distance" in first.why


def test_scans_are_embedded_once(phantoms, checkpoint, pool, tmp_path):
    records = pool.records[:2]
    first = list(slice_features(checkpoint, records, tmp_path))
    written = {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()}
    again = list(slice_features(checkpoint, records, tmp_path))
    assert {file: file.stat().st_mtime_ns for file in tmp_path.iterdir()} == written
    for ours, theirs in zip(first, again, strict=True):
        np.testing.assert_array_equal(ours.features, theirs.features)


@pytest.mark.parametrize("change", ["scan", "weights", "damage"])
def test_a_scan_is_embedded_again_where_it_or_the_weights_or_the_file_changed(change, pool, checkpoint, tmp_path):
    record = dict(pool.records[0])
    image = nib.load(record["image"])
    record["image"] = str(tmp_path / "scan.nii.gz")
    nib.save(image, record["image"])
    weights = tmp_path / "model.pt"
    weights.write_bytes(checkpoint.read_bytes())
    weights.with_suffix(".json").write_text(checkpoint.with_suffix(".json").read_text())
    (first,) = slice_features(weights, [record], tmp_path / "scans")
    if change == "scan":
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[::-1].copy(), image.affine), record["image"])
    if change == "weights":
        state = torch.load(weights, weights_only=True)
        torch.save({name: tensor * 0.5 for name, tensor in state.items()}, weights)
    if change == "damage":
        (file,) = (tmp_path / "scans").iterdir()
        file.write_bytes(file.read_bytes()[:100])
    (second,) = slice_features(weights, [record], tmp_path / "scans")
    assert np.array_equal(first.features, second.features) == (change == "damage")


def test_slices_are_numbered_as_in_the_file(pool, checkpoint, tmp_path):
    record = dict(pool.records[0])
    image = nib.load(record["image"])
    depth = image.shape[2]
    (features,) = slice_features(checkpoint, [record], tmp_path / "up")
    np.testing.assert_array_equal(features.numbers, np.arange(depth))
    upside_down = nib.Nifti1Image(np.asarray(image.dataobj)[:, :, ::-1], image.affine @ np.diag([1, 1, -1, 1.0]))
    record["image"] = str(tmp_path / "down.nii.gz")
    nib.save(upside_down, record["image"])
    (turned,) = slice_features(checkpoint, [record], tmp_path / "down")
    np.testing.assert_array_equal(turned.numbers, np.arange(depth)[::-1])
    np.testing.assert_allclose(turned.features, features.features, atol=1e-5)


def test_an_embedding_compares_scans_part_by_part():
    scan = SliceFeatures(np.arange(8.0)[:, None].repeat(2, 1), np.arange(8))
    embedding = scan_embeddings([scan], num_bins=4)[0]
    means = np.array([0.5, 2.5, 4.5, 6.5])
    expected = np.tile(means, 2) / np.linalg.norm(np.tile(means, 2))
    np.testing.assert_allclose(embedding, expected)
    short = SliceFeatures(np.ones((1, 2)), np.zeros(1, int))  # one slice stands for every part
    np.testing.assert_allclose(scan_embeddings([short])[0], np.full(8, 8**-0.5))


def test_the_slices_of_a_scan_are_unlike_each_other():
    features = np.array([[1.0, 0.0]] * 5 + [[0.0, 1.0]] * 2)
    first, second = representative_slices(SliceFeatures(features, np.arange(7)), 2)
    assert (first < 5) != (second < 5)


def test_a_data_set_with_labels_everywhere_leaves_nothing_to_annotate(phantoms, checkpoint, tmp_path):
    manifest = load_manifest(phantoms.with_name("dataset.json"))
    with pytest.raises(ValueError, match=r"all 12 scans of phantoms have labels.*--from-scratch"):
        embed_pool(manifest, checkpoint, tmp_path)
    assert len(list(suggest(embed_pool(manifest, checkpoint, tmp_path, from_scratch=True)))) == 12


def test_the_command_ranks_draws_and_weighs_what_a_network_is_unsure_of(phantoms, checkpoint, tmp_path):
    finetuned = train("finetune", [], phantoms.with_name("dataset.json"), tmp_path / "tuned", num_labelled=2)
    options = ["--checkpoint", str(checkpoint), "--finetuned", str(finetuned), "--output", str(tmp_path / "out")]
    assert main(["suggest", str(phantoms), *options, "--count", "4", "--slices", "2"]) == 0
    table = pd.read_csv(tmp_path / "out" / "suggestions.csv")
    assert table["rank"].tolist() == [1, 2, 3, 4]
    assert all(len(str(slices).split()) == 2 for slices in table["slices"])
    assert table["why"].str.contains("uncertainty 0.").all()
    picture = imread(tmp_path / "out" / "map.png")[..., :3].mean(axis=-1)
    places, scans = np.hsplit(picture[:, : picture.shape[1] // 2 * 2], 2)
    assert places.std() > 0
    assert (scans < 0.9).mean() > 0.1  # scans are shown beside their places, none of them white


def test_without_weights_the_command_says_what_is_missing(phantoms, tmp_path, caplog):
    missing = str(tmp_path / "model.pt")
    assert main(["suggest", str(phantoms), "--checkpoint", missing, "--output", str(tmp_path)]) == 1
    assert f"no weights at {missing}" in caplog.text
