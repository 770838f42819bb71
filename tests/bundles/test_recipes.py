"""The numbers of the papers, as /docs/methods names their sources: what a recipe is without any option."""

import pytest
import torch
from monai.bundle import ConfigParser

from medssl.networks import MAEDecoder
from medssl.resources import resource

CONFIGS = resource("bundles/pretrain/configs")

# Optimizer, learning rate, momentum, weight decay, slices a batch, epochs.
RECIPES = {
    "relative_location": ("SGD", 0.2, 0.9, 1e-4, 512, 70),  # OpenMMLab's for ResNet-50
    "rotation": ("SGD", 0.1, 0.9, 5e-4, 128, 200),  # RotNet
    "moco_v1": ("SGD", 0.03, 0.9, 1e-4, 256, 200),  # MoCo
    "moco_v2": ("SGD", 0.03, 0.9, 1e-4, 256, 200),
    "densecl": ("SGD", 0.03, 0.9, 1e-4, 256, 200),  # DenseCL
    "byol": ("SGD", 0.1, 0.9, 1e-4, 256, 200),  # epochs of LRC, rate ours
    "models_genesis": ("SGD", 1.0, 0.9, 0, 32, 200),  # Genesis, epochs of LRC
    "lrc": ("Adam", 1e-3, None, 1e-4, 32, 30),  # LRC, rate and batch ours
    "gcl_global": ("Adam", 1e-3, None, 0, 12, 100),  # GCL, 10,000 steps
    "gcl_local": ("Adam", 1e-3, None, 0, 12, 100),
    "simsiam": ("SGD", 0.1, 0.9, 1e-4, 512, 200),  # SimSiam's .05 for 256, epochs of LRC
    "mae": ("AdamW", 1.5e-4, None, 0.05, 256, 800),  # MAE's for 256
    "pirl": ("SGD", 0.12, 0.9, 1e-4, 1024, 800),  # PIRL
    "pcl": ("SGD", 0.1, 0.9, 1e-5, 32, 300),  # the PCL reference, which SAL builds on
    "sal": ("SGD", 0.1, 0.9, 1e-5, 32, 300),
    "simclr": ("SGD", 0.1, 0.9, 1e-5, 32, 300),
    "gcl": ("SGD", 0.1, 0.9, 1e-5, 32, 300),
}

NUMBERS = {
    "moco_v1": {"temperature": 0.07, "momentum": 0.999, "embed_dim": 128},
    "moco_v2": {"temperature": 0.2, "momentum": 0.999, "embed_dim": 128},
    "densecl": {"temperature": 0.2, "momentum": 0.999, "embed_dim": 128, "dense_weight": 0.5},
    "byol": {"momentum": 0.996, "embed_dim": 256, "hidden_features": 4096},
    "simsiam": {"embed_dim": 2048},
    "mae": {"mask_ratio": 0.75, "image_size": [224, 224]},
    "pirl": {"temperature": 0.07, "bank_momentum": 0.5, "tiles_weight": 0.5, "embed_dim": 128},
    "contrastive_crop": {"box_threshold": 0.1, "concentration": 0.6},
    "pcl": {"threshold": 0.35, "temperature": 0.1, "width": 48, "image_size": [352, 352]},
    "sal": {"threshold": 0.35, "temperature": 0.1, "window_size": 2, "alignment_weight": 1.0, "align_level": 3},
    "gcl": {"num_partitions": 4, "temperature": 0.1},
    "gcl_global": {"num_partitions": 4, "temperature": 0.1, "embed_dim": 128},
    "gcl_local": {"temperature": 0.1, "embed_dim": 128, "num_neighbours": 5},
    "lrc": {"num_samples": 50, "width": 64},
}

# The share of the rate in some epochs, the first of them 0.
COSINE = {0: 1, 50: 0.854, 100: 0.5, 199: 0}
HELD = {
    "relative_location": {0: 0.1, 5: 1, 29: 1, 30: 0.1, 49: 0.1, 50: 0.01},
    "rotation": {0: 1, 59: 1, 60: 0.2, 119: 0.2, 120: 0.04, 159: 0.04, 160: 0.008},
    "moco_v1": {0: 1, 119: 1, 120: 0.1, 159: 0.1, 160: 0.01},
    "models_genesis": {0: 1, 39: 1, 40: 0.5, 79: 0.5, 80: 0.25, 199: 0.0625},
    "mae": {0: 0, 20: 0.5, 40: 1, 420: 0.5, 799: 0},
    "pirl": {0: 1, 400: 0.5005, 799: 0.001},
    "sal": {0: 1, 150: 0.5, 299: 0},
    **dict.fromkeys(["moco_v2", "densecl", "byol", "simsiam"], COSINE),
}


def parsed(*names, **options):
    """The configs of a recipe, nothing of it built."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / f"{name}.yaml") for name in ("train", *names)])
    parser.update(options)
    return parser


@pytest.mark.parametrize("recipe", NUMBERS)
def test_without_an_option_a_method_has_the_numbers_of_its_paper(recipe):
    parser = parsed(recipe)
    assert {key: parser.get_parsed_content(key) for key in NUMBERS[recipe]} == NUMBERS[recipe]


@pytest.mark.parametrize("recipe", HELD)
def test_the_rate_falls_as_in_the_paper(recipe):
    weight = torch.nn.Parameter(torch.zeros(1))
    parser = parsed(recipe, trained=[weight], steps_per_epoch=1)
    schedule, optimizer = (parser.get_parsed_content(key) for key in ("schedule", "optimizer"))
    shares = []
    for _ in range(parser.get_parsed_content("max_epochs")):
        shares.append(optimizer.param_groups[0]["lr"] / parser.get_parsed_content("optimizer#lr"))
        optimizer.step()
        schedule.step()
    assert {epoch: shares[epoch] for epoch in HELD[recipe]} == pytest.approx(HELD[recipe], abs=1e-3)


def test_rotation_takes_nesterovs_momentum():
    assert parsed("rotation")["optimizer#nesterov"] is True


@pytest.mark.parametrize("recipe", RECIPES)
def test_without_an_option_a_recipe_is_trained_as_in_its_paper(recipe):
    parser = parsed(recipe)
    found = [parser.get_parsed_content("optimizer#lr"), parser["optimizer"].get("weight_decay", 0)]
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
    ("byol", "head"): [("Linear", 4096), ("BatchNorm1d", 0.1), ("ReLU", None), ("Linear", 256)],
    ("byol", "predictor"): [("Linear", 4096), ("BatchNorm1d", 0.1), ("ReLU", None), ("Linear", 256)],
    ("moco_v1", "head"): [("Linear", 128)],
    ("moco_v2", "head"): [("Linear", 2048), ("ReLU", None), ("Linear", 128)],
    ("densecl", "head"): [("Linear", 2048), ("ReLU", None), ("Linear", 128)],
    ("pirl", "head"): [("Linear", 128)],
    ("pirl", "joint_head"): [("Linear", 128)],
    ("rotation", "head"): [("Linear", 4)],
    ("simsiam", "head"): [
        *[("Linear", 2048), ("BatchNorm1d", 0.1), ("ReLU", None)] * 2,
        ("Linear", 2048),
        ("BatchNorm1d", 0.1),
    ],
    ("simsiam", "predictor"): [("Linear", 512), ("BatchNorm1d", 0.1), ("ReLU", None), ("Linear", 2048)],
    ("relative_location", "head"): [
        ("Linear", 4096),
        ("BatchNorm1d", 0.003),
        ("ReLU", None),
        ("Dropout", 0.5),
        ("Linear", 8),
    ],
}


@pytest.mark.parametrize(("recipe", "part"), HEADS, ids=".".join)
def test_heads_are_those_of_the_papers_for_a_resnet_50(recipe, part):
    parser = parsed(recipe, "resnet50", **{"network_def#out_channels": 2})
    assert layers(parser.get_parsed_content(f"method#{part}")) == HEADS[recipe, part]


def test_one_head_serves_both_losses_of_sal_where_it_is_shared():
    parser = parsed("sal", "sal_shared_head", width=8, **{"network_def#out_channels": 2})
    method = parser.get_parsed_content("method")
    assert method.embedding.head is method.head


def test_maes_decoder_is_that_of_the_paper():
    decoder = MAEDecoder(768, 16 * 16)
    assert len(decoder.layers) == 8
    assert decoder.layers[0].self_attn.num_heads == 16
    assert decoder.layers[0].linear1.in_features == 512
    assert decoder.layers[0].linear1.out_features == 2048


def test_mae_decays_no_bias_and_no_normalisation():
    parser = parsed("mae")
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
