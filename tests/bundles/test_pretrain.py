import json
import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow, verify_net_in_out

from medssl.__main__ import main
from medssl.data import load_manifest
from medssl.engine import Checkpoint, CollapseMonitor
from medssl.engine.command_line import reason
from medssl.networks import ResNetEncoder, ResNetUNet, UNet, ViTEncoder, ViTUNet, load_pretrained
from medssl.resources import resource

CONFIGS = resource("bundles/pretrain/configs")
# Parts of recipes, and a recipe with a test of its own:
PARTS = {
    "train",
    "small",
    "resnet50",
    "stored",
    "own_views",
    "lrc_3d",
    "mae",
    "small_vit",
    "imagenet",
    "random",
}
OVERLAYS = sorted({path.stem for path in CONFIGS.glob("*.yaml")} - PARTS)


BASE = {"lrc_strong": "lrc", "contrastive_crop": "simclr"}  # of overlays that make no method; sal of the others


def with_its_method(name):
    """The overlays of a run that tries one of them."""
    makes_one = "method" in yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    return [name] if makes_one else [BASE.get(name, "sal"), name]


METHODS = [with_its_method(name) for name in OVERLAYS]
SMALL = {method: {"queue_size": 8, "num_splits": 2} for method in ("moco_v1", "moco_v2", "densecl")}
SMALL |= {method: {"image_size": [64, 64]} for method in ("pirl", "relative_location")}  # a third of it is one tile
VIT = {"hidden_size": 16, "mlp_dim": 32, "num_layers": 4}
SMALL["mae"] = {"vit": VIT, "restoring": VIT | {"num_heads": 2}, "image_size": [64, 64]}
COMBINED = [[method, "own_views"] for method in ("moco_v1", "byol", "densecl", "simsiam")]
COMBINED += [[method, "contrastive_crop"] for method in ("byol", "simsiam")]


def exported(method):
    """The parts that a recipe exports."""
    given = [yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()).get("exports") for name in method]
    return next((parts for parts in given if parts), ["encoder"])


@pytest.fixture(scope="session")
def shrunk(run_bundle, tmp_path_factory):
    """Options that a recipe needs at this size, and a second stage its first."""
    output = tmp_path_factory.mktemp("first_stage") / "models"
    run_bundle("pretrain", ["train", "gcl_global", "small"], output, num_slices=8)
    second = {"pretrained": str(output / "model.pt"), "finest": 1, "centre_norm": True, "width": 4}
    sizes = SMALL | {"gcl_local": second}
    return lambda recipe: {"num_slices": 4} | sizes.get(recipe[0], {})


@pytest.fixture(scope="module", params=METHODS, ids=OVERLAYS)
def trained(request, run_bundle, shrunk, tmp_path_factory):
    """A method's overlays, and the folder of its run of four steps."""
    output = tmp_path_factory.mktemp("trained") / "models"
    return request.param, run_bundle("pretrain", ["train", *request.param, "small"], output, **shrunk(request.param))


@pytest.fixture
def joined_with_lrc(run_bundle, regions_learnt, tmp_path):
    """Fine-tune some weights of a global branch beside LRC's for a step, and return the receipt."""

    def fine_tune(weights, *overlays, **options):
        branches = {"pretrained_global": str(weights), "pretrained_local": str(regions_learnt)}
        short = {"num_labelled": 1, "max_epochs": 1, "steps_per_epoch": 1}
        output = run_bundle("finetune", ["train", *overlays], tmp_path / "joined", **branches, **short, **options)
        return json.loads((output / "model.json").read_text())

    return fine_tune


@pytest.fixture(scope="session")
def regions_learnt(run_bundle, tmp_path_factory):
    """An encoder and a decoder pre-trained by LRC for two steps."""
    output = tmp_path_factory.mktemp("lrc") / "models"
    return run_bundle("pretrain", ["train", "lrc", "small"], output, num_slices=4, max_epochs=1) / "model.pt"


def test_every_overlay_trains_and_exports_parts_that_fit(trained):
    method, output = trained
    scalars = pd.read_csv(output / "scalars.csv")
    assert len(scalars) == 4
    assert (scalars["feature_spread"] > 0).all()
    texts = [(CONFIGS / f"{name}.yaml").read_text() for name in method]
    # Where embeddings are compared, the loss of those that are equal is watched; SimSiam's head lets it have none.
    watched = any("CollapseMonitor" in text for text in texts) or method == ["simsiam"]
    assert watched == ("spread" in scalars), "what logs spread lists a CollapseMonitor in its recipe, and nothing else"
    assert scalars["lr"].max() == json.loads((output / "model.json").read_text())["lr"]
    assert scalars["loss"].notna().all()
    taken = load_pretrained(UNet(4, width=4, centre_norm=True), output / "model.pt")
    assert {name.split(".")[0] for name in taken} == set(exported(method))


def test_what_every_overlay_learns_is_joined_with_lrc(trained, joined_with_lrc):
    _, output = trained
    receipt = joined_with_lrc(output / "model.pt", "two_branch", "u_net_branches", "small")
    learnt = json.loads((output / "model.json").read_text())
    assert receipt["network"] == "TwoBranchUNet"
    assert receipt["pretrained_global"]["method"] == learnt["method"]
    assert receipt["pretrained_local"]["method"] == "LRC"


@pytest.mark.parametrize("recipe", [*METHODS, *COMBINED], ids="+".join)
def test_every_recipe_takes_a_step_with_the_optimizer_of_its_paper(recipe, run_bundle, shrunk, tmp_path):
    short = {"max_epochs": 1, "steps_per_epoch": 1} | shrunk(recipe)
    output = run_bundle("pretrain", ["train", *recipe], tmp_path / "models", **short)
    assert pd.read_csv(output / "scalars.csv")["loss"].notna().all()


# Every method, those of SAL's rows too; GCL's second stage needs the decoder of a U-Net.
ON_RESNET = [[name] for (name, *others) in METHODS if not others and name != "gcl_local"]
ON_RESNET += [["simclr", "contrastive_crop"]]
TILED = [["relative_location"], ["pirl"]]
ON_U_NET = [[name] for name in ("rotation", "pirl", "simclr", "gcl", "pcl", "sal", "lrc")]
ON_U_NET += [["simclr", "contrastive_crop"]]


@pytest.mark.parametrize("method", ON_RESNET, ids="+".join)
def test_methods_of_slices_take_a_step_of_a_resnet_50(method, run_bundle, shrunk, tmp_path):
    short = {"max_epochs": 1, "steps_per_epoch": 1} | shrunk(method)
    side = 128 if method in TILED else 64  # a tile is 32 pixels, one feature of the ResNet
    output = run_bundle(
        "pretrain", ["train", *method, "resnet50"], tmp_path / "models", **{**short, "image_size": [side, side]}
    )
    taken = load_pretrained(ResNetUNet(4), output / "model.pt")
    assert {name.split(".")[0] for name in taken} == set(exported(method))


@pytest.mark.parametrize("method", ON_U_NET, ids="+".join)
def test_the_rows_of_sal_and_lrc_take_a_step_of_their_u_nets(method, run_bundle, tmp_path):
    short = {"num_slices": 4, "max_epochs": 1, "steps_per_epoch": 1, "image_size": [64, 64]}
    width = 64 if method == ["lrc"] else 48
    output = run_bundle("pretrain", ["train", *method], tmp_path / "models", width=width, **short)
    taken = load_pretrained(UNet(4, width=width), output / "model.pt")
    assert {name.split(".")[0] for name in taken} == set(exported(method))


def test_maes_row_takes_a_step_of_a_vit_b(run_bundle, tmp_path):
    short = {"num_slices": 2, "max_epochs": 1, "steps_per_epoch": 1, "image_size": [224, 224]}
    output = run_bundle("pretrain", ["train", "mae"], tmp_path / "models", **short)
    taken = load_pretrained(ViTUNet(4), output / "model.pt")
    assert sum(tensor.numel() for tensor in torch.load(output / "model.pt", weights_only=True).values()) > 85e6
    assert {name.split(".")[0] for name in taken} == {"encoder"}


@pytest.mark.parametrize("configs", [["simsiam"], ["simsiam", "small"]], ids="+".join)
def test_simsiams_predictor_keeps_its_learning_rate(configs, run_bundle, tmp_path):
    output = run_bundle("pretrain", ["train", *configs], tmp_path / "models", num_slices=4)
    others, predictor = torch.load(output / "last.pt", weights_only=True)["state"]["optimizer"]["param_groups"]
    assert others["lr"] < 1e-6
    assert predictor["lr"] == json.loads((output / "model.json").read_text())["lr"]


def test_volumes_are_pretrained_on_as_slices_are(run_bundle, tmp_path):
    size = {"image_size": [16, 32, 32], "num_slices": 2, "max_epochs": 1}
    output = run_bundle("pretrain", ["train", "lrc", "small", "lrc_3d"], tmp_path / "models", **size)
    taken = load_pretrained(UNet(4, width=4, spatial_dims=3, centre_norm=True), output / "model.pt")
    assert {name.split(".")[0] for name in taken} == {"encoder", "decoder"}


def test_gcls_second_stage_hands_on_the_encoder_of_the_first(run_bundle, shrunk, tmp_path):
    second = shrunk(["gcl_local"])
    output = run_bundle("pretrain", ["train", "gcl_local", "small"], tmp_path / "local", **second)
    first, learnt = (torch.load(path, weights_only=True) for path in (second["pretrained"], output / "model.pt"))
    assert all(torch.equal(learnt[name], tensor) for name, tensor in first.items())
    assert json.loads((output / "model.json").read_text())["first_stage"] == "GCLGlobal"


def test_the_receipt_of_parts_of_volumes_says_how_many_slices_a_batch_had(run_bundle, tmp_path):
    output = run_bundle("pretrain", ["train", "gcl_global", "small"], tmp_path / "models", num_slices=10, max_epochs=1)
    assert json.loads((output / "model.json").read_text())["num_slices"] == 8


def test_a_second_stage_on_other_images_than_the_first_is_refused(run_bundle, pretrained, tmp_path):
    for given, message in (
        ({"pretrained": str(pretrained), "transductive": False}, "must be of GCLGlobal and the same images"),
        ({}, "give model.pt of gcl_global.yaml as --pretrained"),
    ):
        with pytest.raises(RuntimeError) as raised:
            run_bundle("pretrain", ["train", "gcl_local", "small"], tmp_path / "local", num_slices=4, **given)
        assert message in str(reason(raised.value))


def test_a_vision_transformer_trains_exports_its_encoder_and_is_joined_with_lrc(run_bundle, joined_with_lrc, tmp_path):
    parts = {"num_slices": 4} | SMALL["mae"]
    output = run_bundle("pretrain", ["train", "mae", "small_vit", "small"], tmp_path / "models", **parts)
    taken = load_pretrained(ViTUNet(4, ViTEncoder(**VIT)), output / "model.pt")
    assert {name.split(".")[0] for name in taken} == {"encoder"}
    assert json.loads((output / "model.json").read_text())["vit"] == VIT
    branches = ["vit", "two_branch", "u_net_branches", "vit_branch", "small_vit", "small"]
    receipt = joined_with_lrc(output / "model.pt", *branches, vit=VIT, decoder_width=2)
    assert receipt["pretrained_global"]["method"] == "MAE"
    assert receipt["vit"] == VIT
    assert receipt["centre_norm"] is True  # the second branch's, which inference builds by it


def test_the_resnet_of_the_papers_trains_exports_its_encoder_and_is_joined_with_lrc(
    run_bundle, joined_with_lrc, tmp_path
):
    output = run_bundle(
        "pretrain",
        ["train", "moco_v2", "own_views", "resnet50", "small"],
        tmp_path / "models",
        num_slices=4,
        queue_size=8,
        num_splits=1,
        max_epochs=1,
        steps_per_epoch=1,
    )
    taken = load_pretrained(ResNetUNet(4), output / "model.pt")
    assert {name.split(".")[0] for name in taken} == {"encoder"}
    receipt = json.loads((output / "model.json").read_text())
    assert receipt["network"] == "ResNetUNet"
    assert receipt["views"]["crop"] == {"area": [0.2, 1.0], "ratio": [0.75, 4 / 3], "flip": 0.5}
    assert receipt["views"]["jitter"]["blur"] == [0.1, 2.0]
    receipt = joined_with_lrc(output / "model.pt", "two_branch", "small", local_width=4)
    assert receipt["pretrained_global"]["method"] == "MoCo v2"


def test_imagenets_weights_become_a_checkpoint_without_training_and_are_joined_with_lrc(joined_with_lrc, tmp_path):
    torch.save(ResNetEncoder(in_channels=3).state_dict(), tmp_path / "resnet50.pth")
    workflow = ConfigWorkflow(
        config_file=[str(CONFIGS / f"{name}.yaml") for name in ("train", "imagenet")],
        workflow_type="train",
        weights=str(tmp_path / "resnet50.pth"),
        output_dir=str(tmp_path),
    )
    workflow.initialize()
    workflow.run()
    taken = load_pretrained(ResNetUNet(4), tmp_path / "model.pt")
    assert {name.split(".")[0] for name in taken} == {"encoder"}
    assert json.loads((tmp_path / "model.json").read_text())["method"] == "ImageNet"
    receipt = joined_with_lrc(tmp_path / "model.pt", "two_branch", "small", local_width=4)
    assert receipt["pretrained_global"]["method"] == "ImageNet"


def test_random_weights_are_a_checkpoint_that_the_seed_decides(run_bundle, joined_with_lrc, tmp_path):
    first, again, other = (
        run_bundle("pretrain", ["train", "random", "small"], tmp_path / name, seed=seed) / "model.pt"
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    weights = [next(iter(torch.load(file, weights_only=True).values())) for file in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    receipt = joined_with_lrc(first, "two_branch", "u_net_branches", "small")
    assert receipt["pretrained_global"]["method"] == "Random"
    assert receipt["pretrained_global"]["test_subjects_seen"] == []


@pytest.mark.parametrize(
    ("method", "regions"), [("lrc", ["--superpixels", "100", "0.5", "50"]), ("sal", []), ("gcl_global", [])]
)
def test_a_slice_store_trains_the_same_network(method, regions, run_bundle, phantoms, tmp_path):
    assert main(["prepare", str(phantoms), "--output", str(tmp_path / "store"), "--workers", "1", *regions]) == 0
    direct = run_bundle("pretrain", ["train", method, "small"], tmp_path / "a", num_slices=4)
    stored = run_bundle(
        "pretrain",
        ["train", method, "stored", "small"],
        tmp_path / "b",
        num_slices=4,
        store_dir=str(tmp_path / "store"),
    )
    one, two = (torch.load(folder / "model.pt", weights_only=True) for folder in (direct, stored))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_receipt_says_what_the_weights_saw(pretrained, phantoms):
    receipt = json.loads(pretrained.with_suffix(".json").read_text())
    assert receipt["method"] == "SAL"
    assert receipt["transductive"] is True
    assert len(receipt["subjects"]) == 6
    assert receipt["spacing"]
    assert receipt["window"]
    assert receipt["image_size"] == [32, 32]


# One recipe a method, with whatever it draws, and its queue, bank, twin and boxes:
RESUMED = [method for method in METHODS if len(method) == 1] + [["moco_v2", "contrastive_crop"], ["mae"]]


@pytest.mark.parametrize("method", RESUMED, ids="+".join)
def test_a_run_stopped_in_the_midst_of_an_epoch_goes_on_as_if_it_had_not(method, run_bundle, shrunk, tmp_path):
    def run(folder):
        return run_bundle("pretrain", ["train", *method, "small"], tmp_path / folder, max_epochs=3, **shrunk(method))

    def stop(checkpoint, engine):
        if engine.state.iteration == 3:  # of 6, two an epoch
            os.kill(os.getpid(), signal.SIGTERM)
        keep(checkpoint, engine)

    straight = run("a")
    keep = Checkpoint.stop
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Checkpoint, "stop", stop)
        with pytest.raises(SystemExit, match="143"):
            run("b")
    assert json.loads((tmp_path / "b" / "model.json").read_text())["iteration"] == 3
    resumed = run("b")
    one, two = (torch.load(folder / "model.pt", weights_only=True) for folder in (straight, resumed))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert pd.read_csv(straight / "scalars.csv").equals(pd.read_csv(resumed / "scalars.csv"))


def test_the_clean_protocol_leaves_the_test_fold_out(run_bundle, phantoms, tmp_path):
    output = run_bundle(
        "pretrain", ["train", "sal", "small"], tmp_path / "models", num_slices=4, max_epochs=1, transductive=False
    )
    seen = set(json.loads((output / "model.json").read_text())["subjects"])
    tested = {record["subject_id"] for record in load_manifest(phantoms).training if record["fold"] == 0}
    assert tested
    assert seen == {f"phantom{number:03d}" for number in range(1, 7)} - tested


@pytest.mark.parametrize("method", METHODS, ids=OVERLAYS)
def test_the_properties_of_a_training_bundle_are_all_there(method, shrunk, phantoms, tmp_path):
    workflow = ConfigWorkflow(
        config_file=[str(CONFIGS / f"{name}.yaml") for name in ("train", *method, "small")],
        meta_file=str(CONFIGS / "metadata.json"),
        logging_file=str(CONFIGS / "logging.conf"),
        workflow_type="train",
        bundle_root=str(tmp_path),
        manifest_file=str(phantoms),
        dataset_dir=str(phantoms.parent),
        **shrunk(method),
    )
    workflow.initialize()
    assert workflow.check_properties() == []


def collapsed(method):
    """Let a method's heads say one thing of everything, and its queues and banks hold nothing else."""
    with torch.no_grad():
        for head in (child for name, child in method.named_children() if name not in ("encoder", "contrast")):
            for module in head.modules():
                for name, parameter in module.named_parameters(recurse=False):
                    parameter.fill_(float(name == "bias"))
        for name, buffer in method.named_buffers():
            if name.endswith((".keys", ".vectors")):
                buffer.fill_(1.0)
    return method


WATCHED = [method for method in METHODS if "CollapseMonitor" in (CONFIGS / f"{method[0]}.yaml").read_text()]


@pytest.mark.parametrize("method", WATCHED, ids="+".join)
def test_what_is_watched_is_the_loss_of_a_collapsed_network(method, shrunk, phantoms, tmp_path):
    workflow = ConfigWorkflow(
        config_file=[str(CONFIGS / f"{name}.yaml") for name in ("train", *method, "small")],
        workflow_type="train",
        bundle_root=str(tmp_path),
        manifest_file=str(phantoms),
        dataset_dir=str(phantoms.parent),
        **{"image_size": [32, 32], "width": 4} | shrunk(method),
    )
    workflow.initialize()
    trainer = workflow.parser.get_parsed_content("train#trainer")
    handlers = workflow.parser.get_parsed_content("train#handlers")
    (monitor,) = (handler for handler in handlers if isinstance(handler, CollapseMonitor))
    batch, _ = trainer.prepare_batch(next(iter(trainer.data_loader)), torch.device("cpu"))
    output = collapsed(trainer.network)(batch)
    assert output[monitor.term].item() == pytest.approx(monitor.constant, abs=1e-4)
    assert output["spread"].item() < 0.01


@pytest.mark.parametrize(
    ("overlays", "message"),
    [
        (
            ["rotation", "contrastive_crop"],
            "contrastive_crop.yaml is made for SimCLR, MoCo, BYOL, SimSiam, got Rotation",
        ),
        (["lrc", "own_views"], "own_views.yaml is made for MoCo, DenseCL, BYOL, SimSiam, got LRC"),
    ],
)
def test_views_that_a_method_does_not_take_are_refused(overlays, message, run_bundle, tmp_path):
    with pytest.raises(RuntimeError) as raised:
        run_bundle("pretrain", ["train", *overlays, "small"], tmp_path / "models", num_slices=4)
    assert message in str(reason(raised.value))
    assert not (tmp_path / "models" / "model.pt").exists()


def test_a_size_that_the_network_cannot_take_is_refused_before_data_are_loaded(run_bundle, tmp_path, capfd):
    for overlays, size, message in (
        (["train", "sal"], {"image_size": [40, 40]}, "multiple of 16, got 40"),
        (["train", "lrc", "lrc_3d", "small"], {}, "must have 3 sides for this network, got [32, 32]"),
    ):
        with pytest.raises(RuntimeError) as raised:
            run_bundle("pretrain", overlays, tmp_path / "models", **size)
        assert message in str(reason(raised.value))
    assert "loading" not in capfd.readouterr().err


def test_the_network_takes_and_gives_what_the_metadata_says(phantoms):
    verify_net_in_out(
        "network_def",
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=[str(CONFIGS / "train.yaml"), str(CONFIGS / "sal.yaml")],
        n=2,
        manifest_file=str(phantoms),
        dataset_dir=str(phantoms.parent),
    )


def test_ctrl_c_leaves_a_run_that_the_same_command_continues(phantoms, tmp_path):
    configs = [str(CONFIGS / f"{name}.yaml") for name in ("train", "pcl", "small")]
    data = {"manifest_file": str(phantoms), "dataset_dir": str(phantoms.parent), "output_dir": str(tmp_path / "run")}
    tiny = {"image_size": [32, 32], "width": 4, "num_slices": 4, "max_epochs": 40, "steps_per_epoch": 5}
    (tmp_path / "arguments.json").write_text(json.dumps({"config_file": configs, **data, **tiny}))
    command = [sys.executable, "-m", "monai.bundle", "run", "--args_file", str(tmp_path / "arguments.json")]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (tmp_path / "run" / "last.pt").exists():
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        shown = process.communicate()[1]
    assert process.returncode != 0
    assert "run the same command again to continue" in shown
    assert json.loads((tmp_path / "run" / "model.json").read_text())["epoch"] < 40
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "resumed" in done.stderr
    assert json.loads((tmp_path / "run" / "model.json").read_text())["epoch"] == 40
    assert pd.read_csv(tmp_path / "run" / "scalars.csv")["iteration"].tolist() == list(range(1, 201))
