import os
import subprocess
import sys

import pytest

from medssl.engine import guard_command_line
from medssl.engine.command_line import show_cause
from medssl.resources import resource

MONAI = "/env/monai/bundle/__main__.py"
FINETUNE = resource("bundles/finetune/configs")
CONFIGS = [str(FINETUNE / f"{name}.yaml") for name in ("train", "small")]


@pytest.fixture(autouse=True)
def _own_hook(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)


def guard(*options):
    guard_command_line([MONAI, "run", "--config_file", str(CONFIGS), *options])


def test_options_of_the_configs_pass():
    guard("--num_labelled", "2", "--optimizer#lr=0.1", "--train::trainer::max_epochs", "3", "--resume", "False")
    guard("--image_size", "64,64")
    guard("--optimizer#amsgrad", "True", "-seed", "-1", "--tracking", "mlflow", "--experiment_name", "x")
    guard(
        "--loss#reduction", "none", "--receipt#note", "mine", "--noresume", "--workflow_type", "train", "--", "--trace"
    )
    guard("--fold", "$None", "--meta_file", "x", "--run_id", "run", "--spacing", "[None,1,1]", "--pretrained", "None")


def test_a_misspelt_option_is_refused_with_what_was_meant():
    with pytest.raises(ValueError, match=r"--num_labeled: no config has it; did you mean --num_labelled\?"):
        guard("--num_labeled", "2")


def test_an_option_that_lies_deeper_is_named_whole():
    with pytest.raises(ValueError, match=r"--lr: no config has it \(of organs.yaml\); did you mean --optimizer#lr\?"):
        guard("--lr", "0.1")


def test_every_problem_is_listed_at_once():
    with pytest.raises(ValueError, match="options that would not do what they say") as caught:
        guard("--fold", "None", "--resume", "false", "--num_labeled", "2", "--gibberish")
    assert str(caught.value).splitlines()[1:] == [
        "  --num_labeled: no config has it; did you mean --num_labelled?",
        "  --gibberish: no config has it",
        "  --fold None: MONAI drops it; write --fold '$None'",
        "  --resume false: a word here; write --resume False",
    ]


def test_an_option_of_another_kind_than_the_configs_is_refused_with_an_example():
    with pytest.raises(ValueError, match="options that would not do what they say") as caught:
        guard(
            "--max_epochs",
            "two",
            "--image_size",
            "128",
            "--resume",
            "yes",
            "--flip_prob",
            "$1/2",
            "--crop_size",
            "%image_size",
        )
    assert str(caught.value).splitlines()[1:] == [
        "  --max_epochs two: must be a number, such as 6",
        "  --image_size 128: must be a list, such as [128, 128]",
        "  --resume yes: must be True or False, such as True",
    ]


def test_ctrl_c_is_told_in_a_line(capsys):
    show_cause(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == "stopped by Ctrl-C.\n"


def test_options_of_an_arguments_file_are_checked_too(tmp_path):
    file = tmp_path / "arguments.json"
    file.write_text(f'{{"config_file": ["{CONFIGS[0]}"], "foldd": 1}}')
    with pytest.raises(ValueError, match=r"--foldd: no config has it; did you mean --fold\?"):
        guard_command_line([MONAI, "run", "--args_file", str(file), "--seed", "1"])


def test_an_option_that_the_overlays_leave_without_a_reader_is_refused():
    configs = resource("bundles/pretrain/configs")

    def guard_method(methods, *options):
        files = str([str(configs / f"{name}.yaml") for name in ("train", *methods)])
        guard_command_line([MONAI, "run", "--config_file", files, *options])

    guard_method(["pcl"], "--bend", "[0,1]", "--bundle_root", "x", "--output_dir", "y")
    with pytest.raises(ValueError, match="--bend: nothing reads it with these overlays"):
        guard_method(["lrc"], "--bend", "[0,1]")
    with pytest.raises(ValueError, match="--head_norm: nothing reads it"):  # but for the receipt
        guard_method(["models_genesis"], "--head_norm", "True")
    guard_method(["lrc"], "--elastic#spacing", "9")
    with pytest.raises(ValueError, match="--superpixels#scale: nothing reads it with these overlays"):
        guard_method(["moco_v2"], "--superpixels#scale", "9")
    files = str([*CONFIGS, str(FINETUNE / "two_branch.yaml")])
    told = "--pretrained: nothing reads it with these overlays, but --pretrained_global and --pretrained_local"
    with pytest.raises(ValueError, match=told):
        guard_command_line([MONAI, "run", "--config_file", files, "--pretrained", "model.pt"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["train", "lrc_strong", "lrc"], r"lrc.yaml overwrites .*train.* of lrc_strong.yaml: list it before that"),
        (["train", "moco_v2", "moco_v1"], r"moco_v2.yaml and moco_v1.yaml each define a method"),
        (["train", "small", "lrc"], r"lrc.yaml overwrites .*width of small.yaml"),
        (["small", "train", "lrc"], r"small.yaml runs nothing by itself: list the base, such as train.yaml, before it"),
    ],
)
def test_an_overlay_that_the_order_makes_void_is_refused(names, message):
    files = str([str(resource("bundles/pretrain/configs") / f"{name}.yaml") for name in names])
    with pytest.raises(ValueError, match=message):
        guard_command_line([MONAI, "run", "--config_file", files])


def test_an_option_or_an_id_of_an_overlay_that_is_not_listed_brings_its_name():
    configs = resource("bundles/pretrain/configs")

    def guard_overlays(names, *options):
        files = str([str(configs / f"{name}.yaml") for name in names])
        guard_command_line([MONAI, "run", "--config_file", files, *options])

    with pytest.raises(ValueError, match=r"--store_dir: no config has it \(of stored.yaml\)"):
        guard_overlays(["train", "lrc", "small"], "--store_dir", "store")
    with pytest.raises(ValueError, match=r"@align_level \(of sal.yaml or .*\); list the overlay that does"):
        guard_overlays(["train", "lrc", "sal_predictor"])


def test_a_pre_training_without_a_method_says_that_an_overlay_is_missing():
    configs = resource("bundles/pretrain/configs")
    with pytest.raises(ValueError, match=r"no config defines @method; list the overlay that does after the base"):
        guard_command_line([MONAI, "run", "--config_file", str(configs / "train.yaml")])
    guard_command_line(
        [MONAI, "run", "--config_file", str([str(configs / f"{name}.yaml") for name in ("train", "sal")])]
    )


def test_what_only_another_workflow_needs_may_be_missing():
    configs = [str(FINETUNE / f"{name}.yaml") for name in ("inference", "two_branch", "u_net_branches")]
    guard_command_line([MONAI, "run", "--config_file", str(configs), "--checkpoint", "model.pt"])


def test_other_programs_are_left_alone():
    hook = sys.excepthook
    guard_command_line(["/usr/bin/pytest", "--num_labeled", "2"])
    guard_command_line([MONAI, "run_workflow", "--workflow_name", "x"])
    assert sys.excepthook is hook


def test_monais_command_line_ends_with_the_cause(tmp_path):
    command = [
        sys.executable,
        "-m",
        "monai.bundle",
        "run",
        "--config_file",
        str(CONFIGS),
        "--output_dir",
        str(tmp_path),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}

    def last_lines(*options):
        done = subprocess.run([*command, *options], capture_output=True, text=True, env=environment)
        assert done.returncode == 1
        return done.stderr.splitlines()[-2:]

    assert "did you mean --num_labelled?" in last_lines("--num_labeled", "2")[-1]
    assert "query key: optimiser" in last_lines("--optimiser#lr", "1")[-1]
    assert last_lines("--manifest_file", "nowhere.json")[-1].startswith("FileNotFoundError: no manifest")
