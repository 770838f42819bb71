import json

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from medssl.benchmark import (
    case_dice,
    comparable,
    learning_curve,
    mean_std_table,
    paired_differences,
    plot_differences,
    plot_learning_curves,
    pooled_dice,
    to_markdown,
)
from medssl.benchmark.report import false_voxels, per_run, what_was_seen
from medssl.benchmark.results import run_folder


def rows(method, fold, subject, dices, step=100, draw=0, labels="2", counts=(1, 1, 1)):
    """One case of two classes."""
    tp, fp, fn = counts
    return [
        {"method": method, "labels": labels, "fold": fold, "draw": draw, "step": step, "subject_id": subject}
        | {"case_id": f"{subject}_ed", "class": name, "dice": dice, "tp": tp, "fp": fp, "fn": fn}
        for name, dice in zip(("a", "b"), dices, strict=True)
    ]


@pytest.fixture
def results():
    """Two methods, two folds of two subjects, Dice chosen by hand."""
    table = []
    for method, gain in (("random", 0.0), ("sal", 0.1)):
        for fold, base in ((0, 0.4), (1, 0.6)):
            for subject in ("x", "y"):
                table += rows(method, fold, f"{subject}{fold}", (base + gain, base + gain))
    return pd.DataFrame(table)


def test_prints_mean_and_deviation_over_folds_as_the_papers_do(results):
    table = mean_std_table(results)
    assert table.index.tolist() == ["random", "sal"]
    assert table.loc["random", "2"] == "0.500(.14)"
    assert table.loc["sal", "2"] == "0.600(.14)"


def test_draws_are_averaged_within_a_fold_before_the_deviation():
    table = []
    for fold in (0, 1):
        for draw, dice in enumerate((0.2, 0.6)):
            table += rows("random", fold, f"s{fold}", (dice, dice), draw=draw)
    assert mean_std_table(pd.DataFrame(table)).loc["random", "2"] == "0.400(.00)"


@pytest.mark.parametrize("count", [1, 7])
def test_the_pictures_show_one_method_or_many(count, tmp_path):
    table = []
    for labels in ("2", "6"):
        for method in range(1 + count):
            for subject in ("x", "y", "z"):
                table += rows(f"method_{method}", 0, subject, (0.1 * method, 0.1), labels=labels)
    results = pd.DataFrame(table)
    differences = paired_differences(results, "method_0")
    for picture in (
        plot_learning_curves(results, tmp_path / "curves.png"),
        plot_differences(differences, "method_0", tmp_path / "differences.png"),
    ):
        assert imread(picture)[..., :3].std() > 0


def test_methods_are_compared_on_the_folds_and_draws_that_all_of_them_have(results):
    more = pd.concat([results, pd.DataFrame(rows("random", 2, "z", (0.9, 0.9)) + rows("sal", 0, "x0", (0, 0), draw=1))])
    pd.testing.assert_frame_equal(comparable(more), results)


def test_a_number_of_labels_that_a_method_leaves_out_is_compared_among_the_others(results):
    ten = results[results["method"] == "random"].assign(labels="10")
    assert len(comparable(pd.concat([results, ten]))) == len(results) + len(ten)


def test_a_class_in_neither_truth_nor_prediction_is_left_out():
    assert case_dice(pd.DataFrame(rows("random", 0, "s", (0.8, float("nan")))))["dice"].item() == 0.8


def test_pooled_dice_weighs_voxels_and_case_dice_cases():
    table = pd.DataFrame(
        rows("random", 0, "big", (0.9, 0.9), counts=(90, 10, 10))
        + rows("random", 0, "small", (0.0, 0.0), counts=(0, 1, 1))
    )
    assert pooled_dice(table)["dice"].item() == pytest.approx(180 / (180 + 11 + 11))
    assert mean_std_table(table).loc["random", "2"] == "0.450(-)"  # of one fold there is no deviation
    assert mean_std_table(table, "pooled").loc["random", "2"] == "0.891(-)"
    with pytest.raises(ValueError, match="metric must be case or pooled, got 'mean'"):
        mean_std_table(table, "mean")


def test_numbers_of_labels_stand_in_order_with_all_last(results):
    more = pd.concat([results.assign(labels=label) for label in ("all", "10", "2")])
    assert mean_std_table(more).columns.tolist() == ["2", "10", "all"]


def noisy(shift, seed=0, subjects=40):
    """A method that differs from the baseline by ``shift`` on average, two volumes and three draws a subject."""
    rng, table = np.random.default_rng(seed), []
    for number in range(subjects):
        skill, gain = rng.uniform(0.3, 0.7), rng.normal(shift, 0.05)
        for draw in range(3):
            for method, dice in (("random", skill), ("sal", skill + gain)):
                table += rows(method, number % 5, f"s{number}", (dice, dice), draw=draw)
    return pd.DataFrame(table)


def test_the_interval_holds_a_gain_and_leaves_zero_out():
    row = paired_differences(noisy(0.08)).iloc[0]
    assert row["low"] < 0.08 < row["high"]
    assert row["low"] > 0
    assert row["subjects"] == 40
    assert row["better"] > 0.8


def test_the_interval_is_as_wide_as_subjects_not_draws_make_it():
    row = paired_differences(noisy(0.0)).iloc[0]
    assert row["low"] < 0 < row["high"]
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * 0.05 / np.sqrt(40), rel=0.35)


def test_the_bootstrap_repeats():
    pd.testing.assert_frame_equal(paired_differences(noisy(0.02)), paired_differences(noisy(0.02)))


def test_a_missing_baseline_says_which_there_are(results):
    with pytest.raises(ValueError, match=r"baseline must be one of \['random', 'sal'\], got 'pcl'"):
        paired_differences(results, "pcl")


def test_the_curve_shows_every_step(results):
    earlier = results.assign(step=50, dice=results["dice"] - 0.2)
    curve = learning_curve(pd.concat([earlier, results]))
    assert curve.loc[("2", "sal")].round(3).tolist() == [0.4, 0.6]
    assert curve.columns.tolist() == [50, 100]


def test_an_unknown_step_says_which_there_are(results):
    with pytest.raises(ValueError, match=r"step must be one of \[.*100.*\], got 7"):
        mean_std_table(results, step=7)


def test_markdown_keeps_the_index_as_columns(results):
    lines = to_markdown(mean_std_table(results)).splitlines()
    assert lines[0] == "| method | 2 |"
    assert lines[2] == "| random | 0.500(.14) |"


def test_the_improvements_of_the_lrc_papers_table_1_are_counted_as_its_text_counts_them():
    """Rows better with LRC, of the ten below Random: (9, 10), (7, 9), (10, 6) at 10 and 60 labels."""
    without = [
        [70.9, 77.6, 87.2, 89.4, 67.5, 77.0],
        [69.1, 76.4, 86.1, 89.4, 55.2, 77.9],
        [69.1, 77.0, 86.3, 89.2, 54.7, 76.8],
        [72.1, 77.7, 86.6, 89.3, 52.3, 76.0],
        [72.2, 77.9, 86.6, 89.7, 55.8, 76.7],
        [71.6, 78.0, 87.3, 89.2, 53.1, 76.3],
        [71.6, 77.2, 84.3, 87.5, 59.5, 76.7],
        [73.4, 79.2, 88.2, 88.6, 57.2, 78.9],
        [72.9, 80.2, 88.2, 90.1, 64.0, 74.2],
        [71.5, 79.5, 86.2, 89.3, 52.8, 77.3],
    ]
    with_lrc = [
        [72.7, 78.6, 88.1, 90.3, 72.6, 77.9],
        [72.6, 78.0, 86.0, 89.6, 60.3, 77.9],
        [70.2, 78.1, 84.6, 89.7, 59.6, 77.3],
        [75.3, 79.0, 88.6, 90.1, 70.6, 77.2],
        [75.2, 79.6, 87.4, 90.0, 68.2, 77.5],
        [74.8, 79.0, 88.2, 89.5, 61.1, 76.6],
        [72.0, 78.5, 85.1, 87.8, 62.2, 76.7],
        [76.0, 79.5, 87.0, 89.9, 63.2, 77.2],
        [73.2, 80.6, 88.4, 91.3, 67.2, 73.2],
        [71.2, 79.7, 86.5, 89.0, 55.2, 77.5],
    ]
    counts = []
    for column in range(6):
        table = []
        for row in range(10):
            for method, numbers in (("without", without), ("with", with_lrc)):
                dice = numbers[row][column] / 100
                table += rows(method, 0, f"row{row}", (dice, dice), labels=str(column))
        better = paired_differences(pd.DataFrame(table), "without", num_bootstrap=10).iloc[0]["better"]
        counts.append(round(10 * better))
    assert counts == [9, 10, 7, 9, 10, 6]


def test_the_last_step_is_that_of_each_run_where_runs_differ_in_length():
    table = pd.DataFrame(
        rows("random", 0, "x", (0.5, 0.5), step=40) + rows("random", 0, "x", (0.7, 0.7), step=90, labels="6")
    )
    shown = mean_std_table(table).loc["random"]
    assert shown["2"] == "0.500(-)"
    assert shown["6"] == "0.700(-)"


def test_every_run_is_listed_by_numbers_of_labels_draws_and_methods_as_they_came():
    cells = [("sal", "10", 0), ("random", "10", 0), ("sal", "2", 1), ("sal", "2", 0), ("random", "2", 0)]
    table = [row for method, label, draw in cells for row in rows(method, 0, "x", (0.5, 0.5), draw=draw, labels=label)]
    assert per_run(pd.DataFrame(table)).index.tolist() == [
        ("2", 0, "sal"),
        ("2", 0, "random"),
        ("2", 1, "sal"),
        ("10", 0, "sal"),
        ("10", 0, "random"),
    ]


def test_a_flood_in_one_run_of_many_is_seen():
    table = [*rows("random", 0, "x", (1, 1), counts=(10, 5, 0)), *rows("random", 1, "y", (0, 0), counts=(1, 900, 8))]
    table += rows("random", 2, "z", (0, 0), counts=(0, 7, 0))  # a class that is not there has no voxel to compare with
    assert false_voxels(pd.DataFrame(table)).loc[("2", "random")].tolist() == [100, 100]


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ("nobody pre-trained", "Nothing was pre-trained."),
        ([], "The pre-trainings saw no test subject."),
        (None, "Of some weights it is not known whether they saw test subjects."),
        (["x0"], "Transductive: pre-trainings saw the images, not the labels, of test subjects."),
    ],
)
def test_the_report_says_whether_test_subjects_were_seen(seen, said, results, tmp_path):
    for method, fold in (("random", 0), ("random", 1), ("sal", 0), ("sal", 1)):
        folder = run_folder(tmp_path, method, "2", fold, 0)
        folder.mkdir(parents=True)
        start = None if method == "random" or seen == "nobody pre-trained" else {"test_subjects_seen": seen}
        (folder / "model.json").write_text(json.dumps({"pretrained": start, "pretrained_local": None}))
    assert what_was_seen(tmp_path, results) == said
