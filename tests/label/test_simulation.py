import json

import numpy as np
import pandas as pd
import pytest
from monai.bundle import run

from medssl.__main__ import main
from medssl.data import load_manifest, write_phantoms
from medssl.label import compare_orders, fine_tunings, read_labelled, simulate
from medssl.label.simulation import first_scans, labels_needed, next_scan, random_scans
from medssl.resources import resource


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), num_subjects=5)


@pytest.fixture(scope="module")
def checkpoint(phantoms, tmp_path_factory):
    output = tmp_path_factory.mktemp("pcl")
    configs = [str(resource(f"bundles/pretrain/configs/{name}.yaml")) for name in ("train", "pcl", "small")]
    options = {"manifest_file": str(phantoms), "output_dir": str(output), "image_size": [64, 64], "width": 4}
    run(config_file=configs, bundle_root=str(output), **options, num_slices=4, max_epochs=1, steps_per_epoch=1)
    return output / "model.pt"


@pytest.fixture(scope="module")
def scans(phantoms, checkpoint):
    return read_labelled(load_manifest(phantoms), checkpoint, num_voxels=1024)


@pytest.fixture(scope="module")
def results(phantoms, scans):
    return simulate(load_manifest(phantoms), scans, num_labels=3, num_orders=4)


def test_every_order_is_tested_on_every_subject_after_each_scan(results):
    for strategy, orders in (("first_scans", 1), ("next_scan", 1), ("random", 4)):
        mine = results[results["strategy"] == strategy]
        assert mine.groupby(["order", "labels"])["case_id"].nunique().eq(10).all()
        assert len(mine) == orders * 3 * 10
    assert results["dice"].between(0, 1).all()


def test_no_subject_is_annotated_and_tested(results):
    for _, fold in results.groupby("fold"):
        annotated = set(fold["annotated"].str.split("_").str[0])
        assert annotated
        assert not annotated & set(fold["subject_id"])


def test_all_that_is_labelled_teaches_more_than_one_scan(phantoms, scans):
    last = simulate(load_manifest(phantoms), scans, num_labels=8, num_orders=1)
    mean = last[last["strategy"] == "random"].groupby("labels")["dice"].mean()
    assert mean[8] > mean[1]


def test_the_first_scan_is_chosen_without_a_model(scans):
    assert next(next_scan(scans)) == next(first_scans(scans))


def test_random_orders_take_every_subject_once_before_any_comes_again(scans):
    order = [scans[place].subject_id for place in random_scans(scans, np.random.default_rng(0))]
    assert len(set(order[:5])) == len(set(order[5:])) == 5


def test_the_table_is_that_of_the_cases():
    rows = [
        {
            "strategy": strategy,
            "order": order,
            "fold": 0,
            "labels": labels,
            "case_id": case,
            "subject_id": case,
            "dice": d,
        }
        for strategy, order, labels, dice in (
            ("first_scans", 0, 1, (0.6, 0.4)),
            ("random", 0, 1, (0.2, 0.4)),
            ("random", 1, 1, (0.4, 0.2)),
            ("first_scans", 0, 2, (0.8, 0.8)),
            ("random", 0, 2, (0.6, 0.8)),
            ("random", 1, 2, (0.8, 0.6)),
        )
        for case, d in zip("ab", dice, strict=True)
    ]
    one, two = compare_orders(pd.DataFrame(rows)).to_dict("records")
    assert (one["dice"], one["random"]) == (pytest.approx(0.5), pytest.approx(0.3))
    assert one["difference"] == pytest.approx(0.2)
    assert one["low"] <= 0.2 <= one["high"]
    assert one["labels_saved"] == pytest.approx(0.5)  # .5 lies halfway from .3 to .7
    assert np.isnan(two["labels_saved"])


@pytest.mark.parametrize(("dice", "needed"), [(0.3, 1.0), (0.4, 1.5), (0.5, 2.0), (0.55, 3.5)])
def test_labels_needed_are_read_off_the_best_so_far(dice, needed):
    curve = pd.Series([0.3, 0.5, 0.4, 0.6], index=[1, 2, 3, 4])
    assert labels_needed(curve, dice) == pytest.approx(needed)


@pytest.mark.parametrize("dice", [0.1, 0.7])
def test_nobody_knows_how_many_labels_give_a_dice_beyond_a_curve(dice):
    assert np.isnan(labels_needed(pd.Series([0.3, 0.5, 0.4, 0.6], index=[1, 2, 3, 4]), dice))


def test_the_command_writes_table_and_picture(phantoms, checkpoint, tmp_path):
    options = ["--checkpoint", str(checkpoint), "--scans", "2", "--orders", "2", "--output", str(tmp_path)]
    assert main(["simulate", str(phantoms), *options]) == 0
    assert len(pd.read_csv(tmp_path / "simulation.csv")) == (1 + 1 + 2) * 2 * 10
    assert (tmp_path / "simulation.md").read_text().startswith("| labels | strategy | dice | random |")
    assert (tmp_path / "simulation.png").read_bytes().startswith(b"\x89PNG")


def test_orders_that_annotated_the_same_scans_share_a_fine_tuning(results, phantoms, checkpoint, tmp_path):
    manifest = load_manifest(phantoms)
    runs = fine_tunings(results, manifest, checkpoint, [1, 3], 2, ["small.yaml"], tmp_path)
    assert len(runs) == (1 + 1 + 2) * 2 * 5  # strategies and random orders, numbers, folds
    assert all(len(run.overrides["labelled_cases"]) == labels for (*_, labels), run in runs.items())
    assert all(
        runs["first_scans", 0, fold, 1].folder == runs["next_scan", 0, fold, 1].folder for fold in range(5)
    )  # no model is unsure yet
    with pytest.raises(ValueError, match="4 scans were not replayed: give numbers up to 3"):
        fine_tunings(results, manifest, checkpoint, [4], 2, ["small.yaml"], tmp_path)


def test_the_command_confirms_a_replay_by_fine_tuning(phantoms, checkpoint, tmp_path):
    short = tmp_path / "short.yaml"
    short.write_text("image_size: [64, 64]\ncrop_size: [64, 64]\nwidth: 4\nmax_epochs: 1\nsteps_per_epoch: 1\n")
    options = ["--checkpoint", str(checkpoint), "--scans", "1", "--orders", "1", "--output", str(tmp_path)]
    confirm = ["--finetune", "1", "--finetune-orders", "1", "--overlays", "small.yaml", str(short), "--workers", "2"]
    assert main(["simulate", str(phantoms), *options, *confirm]) == 0
    found = pd.read_csv(tmp_path / "finetuned.csv")
    assert len(found) == 3 * 10  # first_scans, next_scan, random; every case is tested once
    receipts = [json.loads(file.read_text()) for file in (tmp_path / "finetuned").glob("*/model.json")]
    assert 5 <= len(receipts) <= 10  # one or two a fold
    assert all(len(receipt["labelled_cases"]) == 1 for receipt in receipts)
    assert all(receipt["pretrained"]["checkpoint"] == str(checkpoint) for receipt in receipts)
    assert (tmp_path / "finetuned.md").read_text().startswith("| labels | strategy | dice | random |")
    assert (tmp_path / "finetuned.png").read_bytes().startswith(b"\x89PNG")
