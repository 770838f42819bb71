from types import SimpleNamespace

import pytest
import torch
from monai.bundle import run

from medssl.__main__ import main
from medssl.benchmark import plot_embeddings
from medssl.benchmark.embeddings import embed_pixels
from medssl.data import load_manifest, write_phantoms
from medssl.engine import network_of
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


def test_weights_without_a_decoder_are_drawn_by_their_encoder(pretrain, phantoms, tmp_path):
    picture = plot_embeddings(pretrain("pcl"), load_manifest(phantoms), tmp_path / "x.png", num_cases=1)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_fine_tuned_network_is_drawn_by_its_decoder(phantoms, tmp_path):
    configs = [str(resource(f"bundles/finetune/configs/{name}.yaml")) for name in ("train", "small")]
    data = {"manifest_file": str(phantoms), "num_labelled": 2, "output_dir": str(tmp_path)}
    tiny = {name: value for name, value in TINY.items() if name != "num_slices"}
    run(config_file=configs, bundle_root=str(tmp_path), **data, **tiny)
    picture = plot_embeddings(tmp_path / "model.pt", load_manifest(phantoms), tmp_path / "x.png", num_cases=1)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_encoders_are_judged_by_all_their_levels_alike():
    levels = [torch.rand(1, 3, 8, 8), 100 * torch.rand(1, 5, 4, 4)]
    network = SimpleNamespace(encoder=lambda image: levels)
    embeddings = embed_pixels(network, torch.rand(1, 8, 8), decoded=False)
    assert embeddings.shape == (8, 8, 8)
    fine, coarse = embeddings[:3].norm(dim=0), embeddings[3:].norm(dim=0)
    assert (coarse <= fine + 1e-5).all()  # between its places the coarse level is a mixture, and shorter
    torch.testing.assert_close(embeddings.norm(dim=0), torch.ones(8, 8))


def test_there_must_be_cases_to_draw(pretrain, phantoms, tmp_path):
    with pytest.raises(ValueError, match="num_cases must name some of 10 training and unlabelled cases, got 0"):
        plot_embeddings(pretrain("pcl"), load_manifest(phantoms), tmp_path / "x.png", num_cases=0)


@pytest.mark.parametrize("facts", [{"network": "TwoBranchUNet"}, {"network": "UNet", "spatial_dims": 3}])
def test_other_networks_are_refused(facts):
    with pytest.raises(ValueError, match="of a UNet or a ResNetUNet of slices"):
        network_of({"spacing": [1, 1, 1], **facts}, "model.pt")


def test_weights_that_have_seen_no_images_are_refused():
    with pytest.raises(ValueError, match=r"model.pt is of Random, which has seen none"):
        network_of({"network": "UNet", "method": "Random"}, "model.pt")
