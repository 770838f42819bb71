import json
import shutil
import subprocess
import sys
import traceback

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ckpt_export, run, verify_net_in_out

from medssl.data import load_manifest, split
from medssl.resources import resource

CONFIGS = resource("bundles/finetune/configs")


def refusal(call, *args, **kwargs):
    """What is shown when a bundle refuses to run: MONAI's error and, above it, ours."""
    with pytest.raises(RuntimeError) as raised:
        call(*args, **kwargs)
    return "".join(traceback.format_exception(raised.value))


@pytest.fixture
def scans(phantoms, tmp_path):
    """Two scans in a folder of their own, one of them turned."""
    folder = tmp_path / "scans"
    folder.mkdir()
    first, second = sorted((phantoms.parent / "imagesTr").glob("*.nii.gz"))[:2]
    shutil.copy(first, folder)
    image = nib.load(second)
    turned = image.as_reoriented(nib.orientations.axcodes2ornt(("P", "S", "R")))
    nib.save(turned, folder / second.name)
    return folder


def test_metrics_have_a_row_per_case_class_and_evaluation(finetuned):
    rows = pd.read_csv(finetuned / "models" / "metrics.csv")
    assert sorted(rows["step"].unique()) == [2, 4]
    counts = rows.groupby("step").size()
    assert counts.nunique() == 1
    assert set(rows["class"]) == {"right ventricle", "myocardium", "left ventricle"}
    assert rows["dice"].between(0, 1).all()


def test_the_receipt_names_the_subjects_and_how_the_weights_were_chosen(finetuned, pretrained):
    receipt = json.loads((finetuned / "models" / "model.json").read_text())
    assert len(receipt["labelled"]) == 2
    assert receipt["selection"] == "last"
    assert receipt["pretrained"]["checkpoint"] == str(pretrained)
    assert receipt["pretrained"]["method"] == "SAL"
    tested = {row.case_id.split("_")[0] for row in pd.read_csv(finetuned / "models" / "metrics.csv").itertuples()}
    assert receipt["pretrained"]["test_subjects_seen"] == sorted(tested)


# Overlays that have tests of their own:
APART = {
    "train",
    "small",
    "evaluate",
    "every_label",
    "inference",
    "linear_probe",
    "resnet50",
    "select_best",
    "small_vit",
    "two_branch",
    "u_net_3d",
    "u_net_branches",
    "vit",
    "vit_branch",
}
OVERLAYS = sorted({path.stem for path in CONFIGS.glob("*.yaml")} - APART)
SMALL_VIT = {"vit": {"hidden_size": 16, "mlp_dim": 32, "num_layers": 4}, "decoder_width": 2}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_other_overlay_trains(overlay, run_bundle, pretrained, tmp_path):
    short = {"num_labelled": 2, "max_epochs": 1, "pretrained": str(pretrained)}
    output = run_bundle("finetune", ["train", "small", overlay], tmp_path / "models", **short)
    assert json.loads((output / "model.json").read_text())["selection"] == "last"
    assert len(pd.read_csv(output / "metrics.csv")) > 0
    assert torch.load(output / "model.pt", weights_only=True)
    chosen = output / "best.json"
    assert chosen.exists() == (overlay == "select_on_test")
    assert not chosen.exists() or json.loads(chosen.read_text())["selection"] == "the test fold"


def test_two_branches_start_from_their_own_weights_and_segment_together(run_bundle, pretrained, scans, tmp_path):
    local = run_bundle("pretrain", ["train", "lrc", "small"], tmp_path / "lrc", num_slices=4, max_epochs=1) / "model.pt"
    weights = {"pretrained_global": str(pretrained), "pretrained_local": str(local)}
    overlays = ["two_branch", "small", "u_net_branches"]
    # No step is taken with a learning rate of 0: the weights are still those they started from.
    still = {"optimizer#lr": 0.0, "num_labelled": 1, "max_epochs": 1, "steps_per_epoch": 1}
    output = run_bundle("finetune", ["train", *overlays], tmp_path / "models", **weights, **still)
    learnt = torch.load(output / "model.pt", weights_only=True)
    for branch, file in (("global", pretrained), ("local", local)):
        for name, tensor in torch.load(file, weights_only=True).items():
            if "running" not in name and "num_batches" not in name:
                assert torch.equal(learnt[f"{branch}_branch.{name}"], tensor)
    receipt = json.loads((output / "model.json").read_text())
    assert receipt["network"] == "TwoBranchUNet"
    assert [receipt[key]["method"] for key in weights] == ["SAL", "LRC"]
    configs = [str(CONFIGS / f"{name}.yaml") for name in ("inference", "two_branch", "u_net_branches")]
    run(config_file=configs, bundle_root=str(tmp_path), dataset_dir=str(scans), output_dir=str(tmp_path / "masks"))
    assert len(list((tmp_path / "masks").glob("*_seg.nii.gz"))) == 2


@pytest.mark.parametrize(
    ("overlays", "network", "options"),
    [  # said in training alone
        (["resnet50"], "ResNetUNet", {}),
        (["two_branch"], "TwoBranchUNet", {"local_width": 4}),
        (["vit"], "ViTUNet", SMALL_VIT),
        (["vit", "two_branch", "u_net_branches", "vit_branch"], "TwoBranchUNet", SMALL_VIT),
    ],
    ids=["resnet50", "two_branch", "vit", "vit_branch"],
)
def test_the_networks_of_the_papers_are_fine_tuned_evaluated_and_used(
    overlays, network, options, run_bundle, scans, tmp_path
):
    short = {"num_labelled": 1, "max_epochs": 1, "steps_per_epoch": 1}
    output = run_bundle("finetune", ["train", *overlays, "small"], tmp_path / "models", **short, **options)
    assert json.loads((output / "model.json").read_text())["network"] == network
    run_bundle("finetune", ["train", *overlays, "small", "evaluate"], output)
    assert (output / "eval_fold0" / "metrics.csv").exists()
    configs = [str(CONFIGS / f"{name}.yaml") for name in ("inference", *overlays)]
    run(config_file=configs, bundle_root=str(tmp_path), dataset_dir=str(scans), output_dir=str(tmp_path / "masks"))
    assert len(list((tmp_path / "masks").glob("*_seg.nii.gz"))) == 2


def test_the_probe_leaves_the_encoder_as_it_was(run_bundle, pretrained, tmp_path):
    output = run_bundle("finetune", ["train", "small", "linear_probe"], tmp_path / "m", pretrained=str(pretrained))
    before, after = (torch.load(path, weights_only=True) for path in (pretrained, output / "model.pt"))
    weights = [name for name in before if not name.endswith(("running_mean", "running_var", "num_batches_tracked"))]
    assert weights
    assert all(torch.equal(before[name], after[name]) for name in weights)


def test_the_probe_takes_the_encoder_of_weights_that_have_a_decoder_too(run_bundle, tmp_path):
    lrc = run_bundle("pretrain", ["train", "lrc", "small"], tmp_path / "lrc", num_slices=4, max_epochs=1) / "model.pt"
    short = {"num_labelled": 1, "max_epochs": 1, "steps_per_epoch": 1}
    output = run_bundle("finetune", ["train", "small", "linear_probe"], tmp_path / "m", pretrained=str(lrc), **short)
    given, learnt = (torch.load(path, weights_only=True) for path in (lrc, output / "model.pt"))
    first = "encoder.levels.0.conv_0.conv.weight"
    assert torch.equal(given[first], learnt[first])
    assert json.loads((output / "model.json").read_text())["parts_taken"] == ["encoder"]


def test_every_label_is_learnt_from_where_none_is_tested(run_bundle, phantoms, tmp_path):
    short = {"max_epochs": 1, "steps_per_epoch": 1, "val_interval": 1}
    output = run_bundle("finetune", ["train", "small", "every_label"], tmp_path / "models", **short)
    receipt = json.loads((output / "model.json").read_text())
    assert receipt["labelled"] == sorted(load_manifest(phantoms).subjects)
    assert receipt["fold"] is None
    assert not (output / "metrics.csv").exists()


def test_evaluation_gives_the_numbers_of_the_training_again(run_bundle, finetuned):
    run_bundle("finetune", ["train", "small", "evaluate"], finetuned / "models")
    again = pd.read_csv(finetuned / "models" / "eval_fold0" / "metrics.csv")
    rows = pd.read_csv(finetuned / "models" / "metrics.csv")
    last = rows[rows["step"] == rows["step"].max()].drop(columns="step").reset_index(drop=True)
    pd.testing.assert_frame_equal(again, last)


def test_best_weights_are_tested_on_the_test_fold_with_the_spacing_they_were_trained_at(run_bundle, phantoms, tmp_path):
    overlays = ["train", "small", "select_best"]
    output = run_bundle("finetune", overlays, tmp_path / "models", num_labelled=2, spacing=[None, 2.0, 2.0])
    kinds = {file: json.loads((output / file).read_text())["selection"] for file in ("model.json", "best.json")}
    assert kinds == {"model.json": "last", "best.json": "held-out training subjects"}
    assert not (output / "metrics.csv").exists()
    run_bundle("finetune", [*overlays, "evaluate"], output, checkpoint=str(output / "best.pt"))
    manifest = load_manifest(phantoms)
    tested = {record["case_id"] for record in split(manifest, fold=0).test}
    assert set(pd.read_csv(output / "eval_fold0" / "metrics.csv")["case_id"]) == tested
    assert not tested & set(pd.read_csv(output / "held_out.csv")["case_id"])
    chosen_on = json.loads((output / "best.json").read_text())["chosen_on"]
    assert chosen_on
    assert set(chosen_on) == {record["subject_id"] for record in split(manifest, fold=0, num_labelled=2).held_out}
    config = ConfigParser()
    config.read_config([str(CONFIGS / f"{name}.yaml") for name in ("train", "evaluate")])
    config["checkpoint"] = str(output / "best.pt")
    assert config.get_parsed_content("spacing") == [None, 2.0, 2.0]
    assert config.get_parsed_content("width") == 4


def test_masks_have_exactly_the_geometry_of_the_scans(finetuned, scans, tmp_path):
    """The copied bundle stands alone: configs and models in a folder of their own."""
    root = tmp_path / "copy"
    shutil.copytree(CONFIGS, root / "configs")
    shutil.copytree(finetuned / "models", root / "models")
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.yaml"]
    options = ["--dataset_dir", str(scans), "--output_dir", str(tmp_path / "masks")]
    subprocess.run([*command, *options], cwd=root, check=True, capture_output=True)
    for path in scans.iterdir():
        scan, mask = nib.load(path), nib.load(tmp_path / "masks" / path.name.replace(".nii", "_seg.nii"))
        assert mask.shape == scan.shape
        assert np.array_equal(mask.affine, scan.affine)
        assert mask.get_data_dtype() == np.uint8
        assert set(np.unique(np.asarray(mask.dataobj))) <= {0, 1, 2, 3}


@pytest.mark.data("misc_formats")
def test_one_brain_in_many_axis_orders_gets_one_mask_on_the_grid_of_each_file(finetuned, data_set, tmp_path):
    scans, output = data_set / "orientations", tmp_path / "masks"
    checkpoint = str(finetuned / "models" / "model.pt")
    run(
        config_file=str(CONFIGS / "inference.yaml"),
        bundle_root=str(tmp_path),
        checkpoint=checkpoint,
        dataset_dir=str(scans),
        output_dir=str(output),
    )
    canonical = []
    for file in sorted(scans.glob("*.nii.gz")):
        scan, mask = nib.load(file), nib.load(output / file.name.replace(".nii", "_seg.nii"))
        assert mask.shape == scan.shape
        np.testing.assert_array_equal(mask.affine, scan.affine)
        canonical.append(np.asanyarray(nib.as_closest_canonical(mask).dataobj))
    assert len(canonical) == 28
    differing = [np.mean(mask != canonical[0]) for mask in canonical]
    assert max(differing) < 1e-3  # headers agree to 1e-5 mm


def test_volumes_are_learnt_and_segmented_as_slices_are(run_bundle, scans, tmp_path):
    size = {"image_size": [16, 32, 32], "max_epochs": 1}
    before = run_bundle("pretrain", ["train", "lrc", "small", "lrc_3d"], tmp_path / "lrc", num_slices=2, **size)
    start = {"num_labelled": 2, "pretrained": str(before / "model.pt")}
    learnt = run_bundle("finetune", ["train", "small", "u_net_3d"], tmp_path / "models", batch_size=2, **start, **size)
    assert len(pd.read_csv(learnt / "metrics.csv")) > 0
    again = run_bundle("finetune", ["train", "small", "u_net_3d", "evaluate"], learnt, **size)
    assert (again / "eval_fold0" / "overlays.png").exists()
    config, checkpoint, masks = str(CONFIGS / "inference.yaml"), str(learnt / "model.pt"), tmp_path / "masks"
    run(config_file=config, checkpoint=checkpoint, dataset_dir=str(scans), output_dir=str(masks))
    for path in scans.iterdir():
        scan, mask = nib.load(path), nib.load(masks / path.name.replace(".nii", "_seg.nii"))
        assert mask.shape == scan.shape
        assert np.array_equal(mask.affine, scan.affine)


@pytest.mark.parametrize(("config", "kind"), [("train", "train"), ("inference", "infer")])
def test_the_properties_are_all_there(config, kind, finetuned, phantoms):
    train = {"manifest_file": str(phantoms), "dataset_dir": str(phantoms.parent), "width": 4}
    infer = {"dataset_dir": str(phantoms.parent / "imagesTr")}
    workflow = ConfigWorkflow(
        config_file=str(CONFIGS / f"{config}.yaml"),
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=str(CONFIGS / "logging.conf"),
        workflow_type=kind,
        bundle_root=str(finetuned),
        **(train if kind == "train" else infer),
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def test_the_network_takes_and_gives_what_the_metadata_says(finetuned):
    files = {"meta_file": str(CONFIGS / "metadata.json"), "config_file": str(CONFIGS / "inference.yaml")}
    verify_net_in_out("network_def", **files, n=2, bundle_root=str(finetuned))


def test_exports_to_torchscript(finetuned, tmp_path):
    ckpt_export(
        "network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(finetuned / "models" / "model.pt"),
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.yaml"),
        bundle_root=str(finetuned),
    )
    network = torch.jit.load(tmp_path / "model.ts")
    assert network(torch.zeros(1, 1, 32, 32)).shape == (1, 4, 32, 32)


def test_without_weights_inference_says_what_is_missing(tmp_path, scans):
    shown = refusal(run, config_file=str(CONFIGS / "inference.yaml"), bundle_root=str(tmp_path), dataset_dir=str(scans))
    assert f"no weights at {tmp_path}/models/model.pt; correct the path" in shown


def test_the_last_weights_are_evaluated_whatever_the_interval(run_bundle, tmp_path):
    output = run_bundle("finetune", ["train", "small"], tmp_path / "m", num_labelled=1, max_epochs=3, val_interval=2)
    assert sorted(pd.read_csv(output / "metrics.csv")["step"].unique()) == [4, 6]


def test_another_recipe_does_not_continue_a_run(run_bundle, tmp_path):
    run_bundle("finetune", ["train", "small"], tmp_path / "m", num_labelled=1, max_epochs=1)
    for changed, message in (({"num_labelled": 2}, "labelled was"), ({"max_epochs": 2}, "max_epochs was 1, is 2")):
        options = {"num_labelled": 1, "max_epochs": 1, **changed}
        assert message in refusal(run_bundle, "finetune", ["train", "small"], tmp_path / "m", **options)


def test_choosing_weights_needs_subjects_to_choose_by(run_bundle, tmp_path):
    assert "none is left to choose by" in refusal(
        run_bundle, "finetune", ["train", "small", "select_best"], tmp_path / "m"
    )


def test_an_encoder_of_another_spacing_is_warned_of(run_bundle, pretrained, tmp_path, capfd):
    options = {"num_labelled": 1, "max_epochs": 1, "pretrained": str(pretrained), "spacing": [None, 2.0, 2.0]}
    run_bundle("finetune", ["train", "small"], tmp_path / "m", **options)
    shown = capfd.readouterr().err
    assert "was pre-trained with spacing [None, 1.6, 1.6] and is fine-tuned with [None, 2.0, 2.0]" in shown
    assert "saw the images of 2 of 2 test subjects" in shown


def test_a_folder_without_scans_is_said_to_be_one(finetuned, tmp_path):
    config = str(CONFIGS / "inference.yaml")
    assert "no scan (" in refusal(run, config_file=config, bundle_root=str(finetuned), dataset_dir=str(tmp_path))


def test_weights_are_not_evaluated_on_whom_they_learnt_from(run_bundle, finetuned, phantoms):
    learnt = set(json.loads((finetuned / "models" / "model.json").read_text())["labelled"])
    tested = {
        fold: {record["subject_id"] for record in split(load_manifest(phantoms), fold).test} for fold in (1, 2, 3, 4)
    }
    fold = next(fold for fold, subjects in tested.items() if subjects & learnt)
    shown = refusal(run_bundle, "finetune", ["train", "small", "evaluate"], finetuned / "models", fold=fold)
    assert f"was trained on {', '.join(sorted(tested[fold] & learnt))}, test subjects of this fold" in shown
    assert "evaluate it on the fold it left out, 0 of phantoms" in shown


def test_a_case_that_cannot_be_read_is_named_with_its_file_and_reason(phantoms, tmp_path):
    folder = tmp_path / "data"
    shutil.copytree(phantoms.parent, folder)
    broken = sorted((folder / "imagesTr").iterdir())[0]
    broken.write_bytes(broken.read_bytes()[:5000])
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIGS / "train.yaml")]
    options = ["--manifest_file", str(folder / "dataset.json"), "--output_dir", str(tmp_path / "m")]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"ValueError: case phantom001_ed ({broken}, ")
    assert "cannot be used: Compressed file ended before the end-of-stream marker" in last


def test_inference_refuses_an_encoder(pretrained, scans):
    shown = refusal(
        run, config_file=str(CONFIGS / "inference.yaml"), checkpoint=str(pretrained), dataset_dir=str(scans)
    )
    assert "must be a checkpoint of the finetune bundle, got one of pretrain" in shown
