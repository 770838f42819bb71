import pytest
from monai.bundle import run

from medssl.__main__ import main
from medssl.benchmark import plot_embeddings
from medssl.data import load_manifest, write_phantoms
from medssl.resources import resource

TINY = {"image_size": [32, 32], "width": 4, "max_epochs": 1, "steps_per_epoch": 1, "num_slices": 4}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("phantoms"), num_subjects=5)


@pytest.fixture(scope="module")
def pretrain(phantoms, tmp_path_factory):
    def start(method):
        configs = [str(resource(f"bundles/pretrain/configs/{name}.yaml")) for name in ("train", method, "small")]
        output = tmp_path_factory.mktemp(method)
        data = {"manifest_file": str(phantoms), "output_dir": str(output)}
        run(config_file=configs, bundle_root=str(output), **data, **TINY)
        return output / "model.pt"

    return start


def test_regions_and_clusters_are_drawn_side_by_side(pretrain, phantoms, tmp_path):
    picture = tmp_path / "embeddings.png"
    assert main(["embeddings", str(pretrain("lrc")), str(phantoms), "--cases", "1", "--output", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_weights_without_a_decoder_are_refused(pretrain, phantoms, tmp_path):
    with pytest.raises(ValueError, match="holds no decoder"):
        plot_embeddings(pretrain("pcl"), load_manifest(phantoms), tmp_path / "x.png")
