"""The numbers of the papers, as /docs/methods names their sources: what a recipe is without any option."""

import pytest
import torch
from monai.bundle import ConfigParser

from medssl.networks import MAEDecoder, byol_head, mlp_head, relative_location_head, simsiam_head, simsiam_predictor
from medssl.resources import resource

CONFIGS = resource("bundles/pretrain/configs")

# Optimizer, learning rate, momentum, weight decay, slices a batch, epochs.
RECIPES = {
    "relative_location": ("SGD", 0.2, 0.9, 1e-4, 512, 70),  # OpenMMLab's for ResNet-50
    "rotation": ("SGD", 0.1, 0.9, 5e-4, 128, 200),  # RotNet
    "moco_v1": ("SGD", 0.03, 0.9, 1e-4, 256, 200),  # MoCo
    "moco_v2": ("SGD", 0.03, 0.9, 1e-4, 256, 200),
    "densecl": ("SGD", 0.03, 0.9, 1e-4, 256, 200),  # DenseCL
    "simsiam": ("SGD", 0.1, 0.9, 1e-4, 512, 200),  # SimSiam's .05 for 256, epochs of LRC
    "mae": ("AdamW", 1.5e-4, None, 0.05, 256, 800),  # MAE's for 256
    "pirl": ("SGD", 0.12, 0.9, 1e-4, 1024, 800),  # PIRL
    "pcl": ("SGD", 0.1, 0.9, 1e-5, 32, 300),  # the PCL reference, which SAL builds on
    "sal": ("SGD", 0.1, 0.9, 1e-5, 32, 300),
    "simclr": ("SGD", 0.1, 0.9, 1e-5, 32, 300),
    "gcl": ("SGD", 0.1, 0.9, 1e-5, 32, 300),
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_without_an_option_a_recipe_has_the_numbers_of_its_paper(recipe):
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.yaml") for name in ("train", *recipe.split("+"))])
    found = [parser.get_parsed_content(key) for key in ("optimizer#lr", "optimizer#weight_decay")]
    kind, rate, momentum, decay, num_slices, epochs = RECIPES[recipe]
    assert parser["optimizer#_target_"].endswith(kind)
    assert found == pytest.approx([rate, decay])
    assert parser["optimizer"].get("momentum") == momentum
    assert [parser.get_parsed_content(key) for key in ("num_slices", "max_epochs")] == [num_slices, epochs]


def layers(module):
    """Kinds and widths of a head's layers, a dropout's probability, a normalisation's momentum."""
    facts = {"Linear": "out_features", "BatchNorm1d": "momentum", "Dropout": "p"}
    return [(type(layer).__name__, getattr(layer, facts.get(type(layer).__name__, ""), None)) for layer in module]


HEADS = {
    "BYOL": (byol_head, [("Linear", 4096), ("BatchNorm1d", 0.1), ("ReLU", None), ("Linear", 256)]),
    "MoCo v2": (mlp_head, [("Linear", 2048), ("ReLU", None), ("Linear", 512)]),
    "SimSiam": (
        simsiam_head,
        [*[("Linear", 2048), ("BatchNorm1d", 0.1), ("ReLU", None)] * 2, ("Linear", 2048), ("BatchNorm1d", 0.1)],
    ),
    "SimSiam's predictor": (
        simsiam_predictor,
        [("Linear", 512), ("BatchNorm1d", 0.1), ("ReLU", None), ("Linear", 2048)],
    ),
    "relative location": (
        relative_location_head,
        [("Linear", 4096), ("BatchNorm1d", 0.003), ("ReLU", None), ("Dropout", 0.5), ("Linear", 8)],
    ),
}


@pytest.mark.parametrize(("head", "expected"), HEADS.values(), ids=HEADS)
def test_heads_are_those_of_the_papers_for_a_resnet_50(head, expected):
    assert layers(head(2048)) == expected


def test_maes_decoder_is_that_of_the_paper():
    decoder = MAEDecoder(768, 16 * 16)
    assert len(decoder.layers) == 8
    assert decoder.layers[0].self_attn.num_heads == 16
    assert decoder.layers[0].linear1.in_features == 512
    assert decoder.layers[0].linear1.out_features == 2048


def test_mae_decays_no_bias_and_no_normalisation():
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.yaml") for name in ("train", "mae")])
    network = torch.nn.TransformerEncoderLayer(8, 2, 16)
    parser["network"] = network
    decayed, others = parser.get_parsed_content("trained")
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert {names[id(p)] for p in others["params"]} == {
        name for name in names.values() if "bias" in name or "norm" in name
    }
    assert len(decayed["params"]) + len(others["params"]) == len(names)
    assert others["weight_decay"] == 0.0
    assert "weight_decay" not in decayed
