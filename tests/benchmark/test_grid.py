import dataclasses
import itertools
import json
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from matplotlib.image import imread
from monai.bundle import ConfigParser

from medssl.benchmark import Grid, figures, plot_overlays, read_results, write_report
from medssl.benchmark.run import Run, execute
from medssl.data import load_manifest, split, write_phantoms
from medssl.resources import resource

TINY = {"image_size": [32, 32], "width": 4, "max_epochs": 2, "steps_per_epoch": 2}


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), num_subjects=5)


@pytest.fixture(scope="session")
def make_grid(phantoms, tmp_path_factory):
    """A grid of real, tiny runs."""
    folder = tmp_path_factory.mktemp("grid")

    def make(methods, steps=2, name="runs", overlays=("small.yaml",), pretrain_dir=None, **pretrain):
        size = {**TINY, "steps_per_epoch": steps}
        return Grid(
            folder / name,
            load_manifest(phantoms),
            methods,
            num_labelled=[1],
            folds=[0],
            draws={"1": 2},
            pretrain={"overlays": ["small.yaml"], "overrides": {**size, "num_slices": 4, **pretrain}},
            finetune={"overlays": overlays, "overrides": {**size, "val_interval": 1}},
            pretrain_dir=pretrain_dir,
        )

    return make


@pytest.fixture(scope="session")
def finished(make_grid):
    grid = make_grid({"random": None, "pcl": ["pcl.yaml"]})
    with ThreadPoolExecutor(2) as executor:
        grid.run(executor)
    return grid


def test_every_cell_is_run_from_the_weights_of_its_method(finished):
    results = read_results(finished.output_dir)
    cells = results.groupby(["method", "labels", "fold", "draw"]).size()
    assert sorted(cells.index) == [(m, "1", 0, d) for m in ("pcl", "random") for d in (0, 1)]
    receipts = {}
    for method in ("random", "pcl"):
        file = finished.output_dir / "finetune" / method / "m1_fold0_draw0" / "model.json"
        receipts[method] = json.loads(file.read_text())
    assert receipts["random"]["pretrained"] is None
    start = finished.output_dir / "pretrain" / "pcl" / "all" / "model.pt"
    assert receipts["pcl"]["pretrained"]["checkpoint"] == str(start)
    assert receipts["pcl"]["pretrained"]["test_subjects_seen"]  # transductive, and said
    assert receipts["random"]["labelled"] == receipts["pcl"]["labelled"]


def test_what_is_finished_is_skipped(finished):
    files = sorted(finished.output_dir.glob("*/*/*/finished.json"))
    before = [file.stat().st_mtime_ns for file in files]
    assert len(files) == 5
    with ThreadPoolExecutor(1) as executor:
        finished.run(executor)
    assert [file.stat().st_mtime_ns for file in files] == before


def test_a_changed_recipe_is_refused_rather_than_mixed_in(finished, make_grid):
    with (
        ThreadPoolExecutor(1) as executor,
        pytest.raises(ValueError, match="was run with other steps_per_epoch; choose"),
    ):
        make_grid({"random": None, "pcl": ["pcl.yaml"]}, steps=3).run(executor)


def test_comments_are_no_part_of_a_recipe(tmp_path, phantoms):
    file = tmp_path / "x.yaml"
    recipes = []
    for text in ("seed: 1", "# why\nseed: 1  # one", "seed: 2"):
        file.write_text(text)
        recipes.append(Run("finetune", (str(file),), {}, load_manifest(phantoms), tmp_path).recipe)
    assert recipes[0] == recipes[1] != recipes[2]


def test_a_grid_does_not_table_what_was_evaluated_elsewhere(make_grid):
    with pytest.raises(ValueError, match="watches held-out subjects instead"):
        make_grid({"random": None}, overlays=["small.yaml", "select_best.yaml"]).finetunings()


def test_what_the_data_set_has_not_is_refused_before_anything_is_run(phantoms, tmp_path):
    with pytest.raises(ValueError, match="num_labelled must be 1 to 4, the training subjects of fold 0, got 5"):
        Grid(tmp_path / "runs", load_manifest(phantoms), {"random": None}, [1, 5], [0]).finetunings()


def test_a_failure_is_reported_with_its_cause_and_the_others_go_on(make_grid):
    grid = make_grid({"pcl": ["pcl.yaml"], "random": None}, name="failing", num_slices=-1)
    with ThreadPoolExecutor(2) as executor, pytest.raises(RuntimeError, match="3 runs are missing") as raised:
        grid.run(executor)
    assert "pretrain/pcl/all/log.txt: ValueError: there must be vol" in str(raised.value)
    assert "not run, its pre-training failed" in str(raised.value)
    assert (grid.output_dir / "pretrain" / "pcl" / "all" / "log.txt").read_text()
    assert set(read_results(grid.output_dir)["method"]) == {"random"}


def test_without_test_scans_every_fold_has_its_own_pretraining(make_grid):
    grid = make_grid({"pcl": ["pcl.yaml"]})
    grid.folds, grid.transductive = [0, 1], False
    before = [(run.before["pretrained"], run) for run in grid.finetunings()]
    assert {first.folder.name for first, _ in before} == {"fold0", "fold1"}
    assert all(first.overrides["fold"] == run.overrides["fold"] for first, run in before)


def test_a_run_keeps_the_call_that_made_it(finished, tmp_path):
    run = finished.finetunings()[0]
    arguments = json.loads((run.folder / "arguments.json").read_text())
    assert arguments["num_labelled"] == 1
    assert arguments["config_file"] == list(run.configs)
    (tmp_path / "broken.yaml").write_text("run: ['$nobody_knows_this']\n")
    broken = Run("finetune", (str(tmp_path / "broken.yaml"),), {}, run.manifest, tmp_path / "broken")
    with pytest.raises(RuntimeError, match="nobody_knows_this"):
        execute(broken)


def test_a_run_that_is_killed_says_so(tmp_path):
    killer = tmp_path / "killer.yaml"
    killer.write_text("imports: [$import os]\nrun: ['$os.kill(os.getpid(), 9)']\n")
    with pytest.raises(RuntimeError, match="killed by SIGKILL, most often because memory ran out"):
        execute(Run("finetune", (str(killer),), {}, load_manifest("phantoms", check_files=False), tmp_path / "killed"))


def test_a_changed_manifest_makes_another_run(finished, phantoms):
    run = finished.finetunings()[0]
    with pytest.raises(ValueError, match="was run with other manifest;"):
        _ = dataclasses.replace(run, manifest=dataclasses.replace(run.manifest, sha256="0")).finished


def test_overlays_of_one_name_do_not_hide_each_other(finished, tmp_path):
    run = finished.finetunings()[0]
    (tmp_path / "small.yaml").write_text("width: 4")
    other = dataclasses.replace(run, configs=(*run.configs, str(tmp_path / "small.yaml")))
    assert len(other.recipe["small.yaml"]) == 2
    with pytest.raises(ValueError, match=r"other order of overlays, small\.yaml; choose"):
        _ = other.finished


def test_different_pretrainings_of_one_name_are_refused(make_grid, tmp_path):
    (tmp_path / "pcl.yaml").write_text("temperature: 0.2")
    grid = make_grid({"pcl": ["pcl.yaml"], "warm": [str(tmp_path / "pcl.yaml")]})
    with pytest.raises(ValueError, match=r"would share .*pcl.all: give overlays that differ other names"):
        grid.finetunings()


def test_a_method_may_change_options_of_its_overlays(make_grid):
    grid = make_grid({"pcl": ["pcl.yaml"], "warm": ["pcl.yaml", {"temperature": 0.2, "seed": 1}]})
    first, second = (run.before["pretrained"] for run in grid.finetunings()[:2])
    assert first.configs == second.configs
    assert second.overrides == {**first.overrides, "temperature": 0.2, "seed": 1}
    assert second.folder.parent.name == "pcl+temperature=0.2+seed=1"


def test_draws_are_given_by_number_of_labels(phantoms, tmp_path):
    def grid(draws):
        return Grid(tmp_path, load_manifest(phantoms), {"random": None}, [2, None], [0], draws=draws)

    assert len(grid({"2": 2, "6": 5}).finetunings()) == 3
    for wrong in ("two", "all"):
        with pytest.raises(ValueError, match=f"by number of labelled subjects, got {wrong}; all of them are one draw"):
            grid({wrong: 2})


def test_runs_that_the_report_could_not_find_are_refused(phantoms, tmp_path):
    manifest = load_manifest(phantoms)
    with pytest.raises(ValueError, match="folds must be numbers, got null"):
        Grid(tmp_path, manifest, {"random": None}, [2], [None])
    with pytest.raises(ValueError, match=r"methods name folders: .* got \.\./sal\.$"):
        Grid(tmp_path, manifest, {"random": None, "../sal": ["sal.yaml"]}, [2], [0])


def test_an_unknown_overlay_says_where_it_was_looked_for(make_grid):
    with pytest.raises(FileNotFoundError, match=r"no overlay .*nothing.yaml"):
        make_grid({"x": ["nothing.yaml"]}).finetunings()


def test_the_report_has_the_table_the_curve_and_pictures(finished, phantoms):
    report = write_report(finished.output_dir, load_manifest(phantoms))
    text = report.read_text()
    assert "| pcl |" in text
    assert "Difference to random" in text
    assert "Transductive: pre-trainings saw the images" in text
    assert "| labels | draw | method | 0 |" in text
    assert "1 labelled subjects, fold 0, draw 0" in text
    assert "| labels | method | right ventricle | myocardium | left ventricle |" in text
    runs = pd.read_csv(finished.output_dir / "runs.csv")
    assert list(runs.columns) == ["method", "labels", "fold", "draw", "step", "case", "pooled"]
    assert not runs.duplicated(["method", "labels", "fold", "draw", "step"]).any()
    for picture in ("learning_curves.png", "differences.png", "overlays.png"):
        data = (finished.output_dir / picture).read_bytes()
        assert data.startswith(b"\x89PNG")
        assert len(data) < 400_000


def test_panels_of_many_methods_go_on_in_the_next_row(finished, phantoms, tmp_path, monkeypatch):
    results, manifest = read_results(finished.output_dir), load_manifest(phantoms)
    sizes = []
    for columns in (8, 2):
        monkeypatch.setattr(figures, "COLUMNS", columns)
        picture = plot_overlays(results, finished.output_dir, manifest, tmp_path / "overlays.png", labels="1")
        sizes.append(imread(picture).shape)
    assert sizes[1][1] < sizes[0][1]
    assert sizes[1][0] > sizes[0][0]


def test_nothing_finished_is_said_plainly(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished fine-tuning"):
        read_results(tmp_path)


def test_results_of_every_evaluation_make_the_curve(finished):
    results = read_results(finished.output_dir)
    assert sorted(results["step"].unique()) == [2, 4]
    assert results[["tp", "fp", "fn"]].notna().all(axis=None)
    assert (results["tp"] + results["fn"] > 0).all()  # every phantom has every class


def test_a_second_grid_starts_from_the_pretrainings_of_the_first(finished, make_grid, phantoms):
    shared = finished.output_dir / "pretrain"
    grid = make_grid(
        {"pcl": ["pcl.yaml"]}, name="probe", overlays=["small.yaml", "linear_probe.yaml"], pretrain_dir=shared
    )
    with ThreadPoolExecutor(2) as executor:
        grid.run(executor)
    receipt = json.loads((grid.output_dir / "finetune" / "pcl" / "m1_fold0_draw0" / "model.json").read_text())
    assert receipt["network"] == "LinearProbe"
    assert receipt["pretrained"]["checkpoint"] == str(shared / "pcl" / "all" / "model.pt")
    assert not (grid.output_dir / "pretrain").exists()
    assert "Predictions" not in write_report(grid.output_dir, load_manifest(phantoms), baseline="pcl").read_text()


def test_a_changed_pretraining_is_noticed_when_its_finetunings_are_finished(finished, make_grid):
    grid = make_grid({"random": None, "pcl": ["pcl.yaml"]}, threshold=0.1)
    with (
        ThreadPoolExecutor(1) as executor,
        pytest.raises(ValueError, match="pretrain/pcl/all was run with other threshold"),
    ):
        grid.run(executor)


def test_a_method_of_two_branches_waits_for_both_and_shares_what_others_have_made(finished, make_grid):
    branches = {"pretrained_global": ["pcl.yaml"], "pretrained_local": ["lrc.yaml"]}
    two = {**branches, "finetune": ["two_branch.yaml", "u_net_branches.yaml"]}
    grid = make_grid({"pcl": ["pcl.yaml"], "pcl_lrc": two})
    with ThreadPoolExecutor(2) as executor:
        grid.run(executor)
    receipt = json.loads((grid.output_dir / "finetune" / "pcl_lrc" / "m1_fold0_draw0" / "model.json").read_text())
    assert receipt["network"] == "TwoBranchUNet"
    for option, name in (("pretrained_global", "pcl"), ("pretrained_local", "lrc")):
        assert receipt[option]["checkpoint"] == str(grid.output_dir / "pretrain" / name / "all" / "model.pt")
    write_report(grid.output_dir, grid.manifest, baseline="pcl")  # with predictions of both networks
    shutil.rmtree(grid.output_dir / "finetune" / "pcl_lrc")
    shutil.rmtree(grid.output_dir / "pretrain" / "lrc")


class Interrupted(ThreadPoolExecutor):
    """One run is under way and others are queued when the user presses Ctrl-C."""

    def submit(self, *args, **kwargs):
        self.futures = [*getattr(self, "futures", []), super().submit(time.sleep, 0.5)]
        if len(self.futures) == 3:
            self.futures[0].add_done_callback(lambda _: os.kill(os.getpid(), signal.SIGINT))
        return self.futures[-1]


def test_ctrl_c_leaves_nothing_queued(make_grid):
    with Interrupted(1) as executor:
        with pytest.raises(KeyboardInterrupt):
            make_grid({"random": None, "a": None}, name="interrupted").run(executor)
        assert executor.futures[-1].cancelled()


@pytest.mark.parametrize(("data_set", "numbers"), [("acdc", [2, 6, 10, None]), ("chd", [2, 6, 15, 51])])
def test_the_shipped_grid_takes_the_numbers_of_the_paper_and_fits_every_fold(data_set, numbers):
    """The folds of a patient who stands under two names have one training subject fewer: all of ACDC is no number."""
    config = ConfigParser()
    config.read_config(str(resource("bundles/benchmark/configs/benchmark.yaml")))
    config.update({"manifest_file": data_set, "manifest#check_files": False})
    assert config.get_parsed_content("num_labelled") == numbers
    for number, fold in itertools.product(numbers, config["folds"]):
        assert split(config.get_parsed_content("manifest"), fold, number).labelled


@pytest.mark.parametrize(
    ("study", "methods", "cells"),
    [
        (["phantoms"], 2, 2),
        (["small", "sal_acdc"], 4, 25),
        (["small", "sal_acdc", "sal_readings"], 7, 5),
        (["small", "lrc_han"], 8, 9),
        (["small", "lrc_han", "lrc_han_choices"], 7, 3),
        (["lrc_hippocampus"], 2, 6),
        (["small", "all_methods_acdc"], 29, 6),
    ],
)
def test_every_shipped_study_is_a_grid_of_overlays_that_exist(study, methods, cells, tmp_path):
    config = ConfigParser()
    config.read_config([str(resource(f"bundles/benchmark/configs/{name}.yaml")) for name in ["benchmark", *study]])
    assert config["baseline"] in config["methods"]
    manifest = load_manifest(config["manifest_file"], check_files=False)
    names = ("methods", "num_labelled", "folds", "draws", "transductive")
    both = {"overlays": config["overlays"]}
    grid = Grid(tmp_path, manifest, **{name: config[name] for name in names}, pretrain=both, finetune=both)
    assert len(grid.methods) == methods
    assert len(grid.finetunings()) == methods * cells


def test_an_incomplete_grid_is_reported_as_far_as_it_goes(finished, phantoms, tmp_path):
    folder = tmp_path / "runs"
    shutil.copytree(finished.output_dir / "finetune", folder / "finetune")
    shutil.rmtree(folder / "finetune" / "random" / "m1_fold0_draw0")
    text = write_report(folder, load_manifest(phantoms)).read_text()
    assert "| pcl |" in text
    assert "2 fine-tunings; 1 more are finished, whose fold and draw other methods lack." in text
    shutil.rmtree(folder / "finetune" / "random")
    assert "random is not finished." in write_report(folder, load_manifest(phantoms)).read_text()


def test_methods_without_a_common_fold_and_draw_are_not_compared(finished, phantoms, tmp_path):
    folder = tmp_path / "runs"
    shutil.copytree(finished.output_dir / "finetune", folder / "finetune")
    shutil.rmtree(folder / "finetune" / "random" / "m1_fold0_draw0")
    shutil.rmtree(folder / "finetune" / "pcl" / "m1_fold0_draw1")
    with pytest.raises(ValueError, match=r"no fold and draw below .* is finished for every method"):
        write_report(folder, load_manifest(phantoms))
