"""A published bundle, used as somebody would who has MONAI and not medssl."""

import hashlib
import json
import re
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml
from monai.bundle import ConfigWorkflow, run, verify_metadata

from medssl.__main__ import main
from medssl.data import load_manifest
from medssl.publish import publish
from medssl.resources import resource

CONFIGS = resource("bundles/finetune/configs")
# monai.bundle where importing medssl fails
WITHOUT_US = (
    "import runpy, sys; sys.modules['medssl'] = None; sys.path.insert(0, '.'); "
    "runpy.run_module('monai.bundle', run_name='__main__')"
)
FILES = ["--meta_file", "configs/metadata.json", "--config_file", "configs/inference.yaml"]
TENSOR = {
    "type": "object",
    "required": [
        *("type", "format", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data", "channel_def")
    ],
    "properties": {
        "type": {"enum": ["image", "series", "tuples", "probabilities"]},
        "format": {"type": "string"},
        "modality": {"type": "string"},
        "num_channels": {"type": "integer", "minimum": 1},
        "spatial_shape": {"type": "array", "items": {"type": ["integer", "string"]}, "minItems": 1, "maxItems": 3},
        "dtype": {"type": "string"},
        "value_range": {"type": "array", "items": {"type": "number"}, "maxItems": 2},
        "is_patch_data": {"type": "boolean"},
        "channel_def": {"type": "object", "additionalProperties": {"type": "string"}},
    },
}
TENSORS = {"type": "object", "additionalProperties": TENSOR, "minProperties": 1}
TEXTS = ("version", "monai_version", "pytorch_version", "numpy_version", "task", "description", "authors", "copyright")
SCHEMA = {  # what MONAI's bundle specification asks of metadata.json
    "type": "object",
    "required": [*TEXTS, "network_data_format"],
    "properties": {
        **{text: {"type": "string", "minLength": 1} for text in TEXTS},
        "changelog": {"type": "object", "additionalProperties": {"type": "string"}},
        "required_packages_version": {"type": "object", "additionalProperties": {"type": "string"}},
        "eval_metrics": {"type": "object", "additionalProperties": {"type": "number"}},
        "network_data_format": {
            "type": "object",
            "required": ["inputs", "outputs"],
            "properties": {"inputs": TENSORS, "outputs": TENSORS},
        },
    },
}


def bare(bundle, *arguments):
    """Call monai.bundle in a bundle's folder, without medssl, and return what it printed."""
    called = subprocess.run(
        [sys.executable, "-c", WITHOUT_US, *arguments], cwd=bundle, capture_output=True, text=True, check=False
    )
    assert called.returncode == 0, called.stdout + called.stderr
    return called.stdout + called.stderr


@pytest.fixture(scope="module")
def published(finetuned, tmp_path_factory):
    return publish(finetuned / "models", "heart_mr_segmentation", tmp_path_factory.mktemp("published"))


def test_it_segments_as_the_run_does(published, finetuned, phantoms, tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    first, second = sorted((phantoms.parent / "imagesTr").glob("*.nii.gz"))[:2]
    nib.save(nib.load(first), scans / first.name)
    turned = nib.load(second).as_reoriented(nib.orientations.axcodes2ornt(("P", "S", "R")))
    nib.save(turned, scans / second.name)
    checkpoint, masks = str(finetuned / "models" / "model.pt"), tmp_path / "masks"
    config = str(CONFIGS / "inference.yaml")
    run(config_file=config, checkpoint=checkpoint, dataset_dir=str(scans), output_dir=str(masks))
    folders = ["--dataset_dir", str(scans), "--output_dir", str(tmp_path / "eval")]
    bare(published, "run", "--config_file", "configs/inference.yaml", *folders)
    assert len(list(masks.iterdir())) == 2
    for mask in masks.iterdir():
        ours, theirs = nib.load(mask), nib.load(tmp_path / "eval" / mask.name)
        np.testing.assert_array_equal(np.asarray(ours.dataobj), np.asarray(theirs.dataobj))
        np.testing.assert_array_equal(ours.affine, theirs.affine)
        assert theirs.get_data_dtype() == np.uint8


def test_the_network_takes_and_gives_what_the_metadata_says(published):
    assert "verified with no error" in bare(published, "verify_net_in_out", "network_def", *FILES)


def test_the_metadata_are_what_the_specification_asks_for(published, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text(json.dumps(SCHEMA))
    known = {
        "filepath": str(schema),
        "hash_type": "sha256",
        "hash_val": hashlib.sha256(schema.read_bytes()).hexdigest(),
    }
    verify_metadata(meta_file=str(published / "configs" / "metadata.json"), **known)
    facts = json.loads((published / "configs" / "metadata.json").read_text())
    assert facts["version"] in facts["changelog"]
    assert facts["network_data_format"]["outputs"]["pred"]["channel_def"]["1"] == "right ventricle"
    assert 0 <= facts["eval_metrics"]["mean_dice"] <= 1
    (published / "configs" / "wrong.json").write_text(json.dumps({**facts, "network_data_format": {"inputs": {}}}))
    with pytest.raises(ValueError, match="against schema"):
        verify_metadata(meta_file=str(published / "configs" / "wrong.json"), **known)
    (published / "configs" / "wrong.json").unlink()


@pytest.mark.filterwarnings("ignore:NvImgCodecPydicomReader")  # MONAI's loader registers every reader there is
def test_the_properties_are_all_there(published, monkeypatch):
    monkeypatch.chdir(published)
    monkeypatch.syspath_prepend(published)
    for name in [name for name in sys.modules if name.split(".")[0] == "scripts"]:
        monkeypatch.delitem(sys.modules, name)
    (published / "scans").mkdir()
    workflow = ConfigWorkflow(
        config_file="configs/inference.yaml",
        meta_file="configs/metadata.json",
        logging_file="configs/logging.conf",
        workflow_type="infer",
    )
    workflow.initialize()
    assert workflow.check_properties() == []
    (published / "scans").rmdir()


def test_it_exports_to_torchscript_and_to_onnx(published, tmp_path):
    onnx = pytest.importorskip("onnx")
    weights = ["--ckpt_file", "models/model.pt"]
    bare(published, "ckpt_export", "network_def", "--filepath", str(tmp_path / "model.ts"), *weights, *FILES)
    bare(published, "onnx_export", "network_def", "--filepath", str(tmp_path / "model.onnx"), *weights, *FILES)
    assert torch.jit.load(tmp_path / "model.ts")(torch.zeros(1, 1, 32, 32)).shape == (1, 4, 32, 32)
    onnx.checker.check_model(str(tmp_path / "model.onnx"))


def test_it_names_no_subject_and_no_path_of_the_machine(published, finetuned, phantoms):
    subjects = load_manifest(phantoms).subjects
    texts = [file for file in published.rglob("*") if file.suffix in (".json", ".yaml", ".md", ".py", ".conf")]
    assert {"metadata.json", "inference.yaml", "README.md", "unet.py"} <= {file.name for file in texts}
    for file in texts:
        text = file.read_text()
        assert not re.search(r"(from|import|_target_:) medssl", text), file
        assert str(finetuned) not in text
        assert not [subject for subject in subjects if subject in text]


SMALL_VIT = {"vit": {"hidden_size": 16, "mlp_dim": 32, "num_layers": 4}, "decoder_width": 2}


@pytest.mark.parametrize(
    ("overlays", "options"),
    [
        (["resnet50"], {}),
        (["vit"], SMALL_VIT),
        (["two_branch", "u_net_branches"], {"local_width": 4}),
        (["vit", "two_branch", "u_net_branches", "vit_branch"], SMALL_VIT),
        (["u_net_3d"], {"image_size": [16, 32, 32], "batch_size": 2}),
    ],
    ids=["resnet50", "vit", "two_branch", "vit_branch", "u_net_3d"],
)
def test_every_network_is_published(overlays, options, run_bundle, tmp_path):
    last = ["small"] if overlays != ["u_net_3d"] else []
    first = ["small"] if overlays == ["u_net_3d"] else []
    short = {"num_labelled": 1, "max_epochs": 1, "steps_per_epoch": 1, "width": 4}
    run_folder = run_bundle("finetune", ["train", *first, *overlays, *last], tmp_path / "run", **short, **options)
    inference = [] if overlays == ["u_net_3d"] else [f"{name}.yaml" for name in overlays]
    bundle = publish(run_folder, "net", tmp_path, inference)
    assert "verified with no error" in bare(bundle, "verify_net_in_out", "network_def", *FILES)
    config = yaml.safe_load((bundle / "configs" / "inference.yaml").read_text())
    assert "learnt" not in json.dumps(config)


def test_the_command_publishes_a_release(finetuned, tmp_path):
    assert main(["publish", str(finetuned / "models"), "heart", "--output", str(tmp_path), "--release", "1.2.0"]) == 0
    assert json.loads((tmp_path / "heart/configs/metadata.json").read_text())["version"] == "1.2.0"


def test_nothing_is_overwritten_or_left_half_made(finetuned, run_bundle, tmp_path):
    publish(finetuned / "models", "heart", tmp_path)
    with pytest.raises(FileExistsError, match="heart is there already; give another name or output"):
        publish(finetuned / "models", "heart", tmp_path)
    with pytest.raises(ValueError, match="heart_detection"):
        publish(finetuned / "models", "heart_detection", tmp_path)
    with pytest.raises(ValueError, match=r"\.\./heart"):
        publish(finetuned / "models", "../heart", tmp_path)
    with pytest.raises(ValueError, match=r"such as 0.1.0, got 'new'"):
        publish(finetuned / "models", "other", tmp_path, release="new")
    with pytest.raises(ValueError, match="encoder"):
        publish(finetuned / "models", "other", tmp_path, ["resnet50.yaml"])
    with pytest.raises(FileNotFoundError, match="no weights at"):
        publish(tmp_path / "nothing", "none", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["heart"]
