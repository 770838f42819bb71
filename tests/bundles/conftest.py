import pytest
from monai.bundle import run

from medssl.data import write_phantoms
from medssl.resources import resource

TINY = {"image_size": [32, 32], "width": 4, "max_epochs": 2, "steps_per_epoch": 2}


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    """Six subjects of phantoms and their manifest."""
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), num_subjects=6)


@pytest.fixture(scope="session")
def run_bundle(phantoms):
    """Run a bundle for a few tiny steps, its configs named without folder and ending."""

    def start(bundle, configs, output, **overrides):
        files = [str(resource(f"bundles/{bundle}/configs/{name}.yaml")) for name in configs]
        data = {"manifest_file": str(phantoms), "dataset_dir": str(phantoms.parent)}
        run(config_file=files, bundle_root=str(output.parent), output_dir=str(output), **{**TINY, **data, **overrides})
        return output

    return start


@pytest.fixture(scope="session")
def pretrained(run_bundle, tmp_path_factory):
    """An encoder pre-trained by SAL for four steps."""
    output = tmp_path_factory.mktemp("pretrain") / "models"
    return run_bundle("pretrain", ["train", "sal", "small"], output, num_slices=4) / "model.pt"


@pytest.fixture(scope="session")
def finetuned(run_bundle, pretrained, tmp_path_factory):
    """A bundle root whose ``models`` hold a network fine-tuned for four steps."""
    root = tmp_path_factory.mktemp("finetune")
    run_bundle(
        "finetune", ["train", "small"], root / "models", num_labelled=2, pretrained=str(pretrained), val_interval=1
    )
    return root
