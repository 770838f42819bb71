"""What every method promises. A new one joins MAKERS, or the first test fails."""

import copy
import importlib
import inspect
import pkgutil

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.counting import count_kernels
from medssl import methods
from medssl.losses import LocalRegionContrastLoss
from medssl.networks import (
    MAEDecoder,
    Pointwise,
    UNet,
    ViTEncoder,
    ViTUNet,
    byol_head,
    gcl_local_head,
    linear_head,
    load_pretrained,
    mlp_head,
    part_state,
    relative_location_head,
    simsiam_head,
    simsiam_predictor,
)

MAKERS = {
    "BYOL": lambda network: methods.BYOL(network.encoder, byol_head(32, 8, 16), byol_head(8, 8, 16)),
    "ContrastiveCrop": lambda network: methods.ContrastiveCrop(
        methods.SimCLR(network.encoder, mlp_head(32, 8, norm=True)), num_slices=9
    ),
    "DenseCL": lambda network: methods.DenseCL(
        network.encoder, linear_head(32, 8, norm=True), Pointwise(linear_head(32, 8)), queue_size=8, embed_dim=8
    ),
    "GCL": lambda network: methods.GCL(network.encoder, mlp_head(32, 8, norm=True)),
    "GCLGlobal": lambda network: methods.GCLGlobal(network.encoder, mlp_head(32, 8, norm=True)),
    "GCLLocal": lambda network: methods.GCLLocal(network.encoder, network.decoder, gcl_local_head(4, 8), finest=1),
    "LRC": lambda network: methods.LRC(network.encoder, network.decoder, LocalRegionContrastLoss()),
    "MoCo": lambda network: methods.MoCo(network.encoder, linear_head(32, 8, norm=True), queue_size=8, embed_dim=8),
    "ModelsGenesis": lambda network: methods.ModelsGenesis(network.encoder, network.decoder, torch.nn.Conv2d(2, 1, 1)),
    "PIRL": lambda network: methods.PIRL(
        network.encoder, linear_head(32, 8), linear_head(32, 8), linear_head(72, 8), bank_size=9, embed_dim=8
    ),
    "MAE": lambda network: methods.MAE(network.encoder, MAEDecoder(16, 256, 16, 32, 1, 2)),
    "PCL": lambda network: methods.PCL(network.encoder, mlp_head(32, 8, norm=True)),
    "RelativeLocation": lambda network: methods.RelativeLocation(network.encoder, relative_location_head(32, 16)),
    "Rotation": lambda network: methods.Rotation(network.encoder, linear_head(32, 4)),
    "SAL": lambda network: methods.SAL(network.encoder, linear_head(32, 8, norm=True), torch.nn.Conv2d(16, 16, 1)),
    "SimCLR": lambda network: methods.SimCLR(network.encoder, mlp_head(32, 8, norm=True)),
    "SimSiam": lambda network: methods.SimSiam(network.encoder, simsiam_head(32, 8), simsiam_predictor(8)),
}


CANNOT_COLLAPSE = {
    "MAE",
    "ModelsGenesis",
    "RelativeLocation",
    "Rotation",
}  # targets are fixed: equal embeddings cannot solve the task
EXPORTS = {name: ["encoder", "decoder"] for name in ("GCLLocal", "LRC", "ModelsGenesis")}  # the others: the encoder
ONE_VIEW = {"MAE", "ModelsGenesis", "PIRL", "RelativeLocation", "Rotation"}  # or tiles of it


def test_every_method_is_under_contract():
    modules = [
        importlib.import_module(f"medssl.methods.{module.name}") for module in pkgutil.iter_modules(methods.__path__)
    ]
    classes = [found for module in modules for found in vars(module).values() if isinstance(found, type)]
    written = {found.__name__ for found in classes if issubclass(found, nn.Module) and "batch" in arguments(found)}
    assert MAKERS.keys() == written == set(methods.__all__)


def arguments(module):
    """Names of what a module is called with."""
    return inspect.signature(module.forward).parameters


def make_network(method, classes):
    """The network whose parts a method trains."""
    if method == "MAE":
        return ViTUNet(classes, ViTEncoder(hidden_size=16, mlp_dim=32, num_layers=4), decoder_width=2)
    return UNet(classes, width=2, centre_norm=True)


@pytest.fixture(params=MAKERS)
def make(request):
    """The method, and the network whose parts it trains."""

    def make_both():
        torch.manual_seed(0)
        network = make_network(request.param, 4)
        return MAKERS[request.param](network), network

    return make_both


def test_every_trainable_parameter_gets_a_finite_gradient(make, make_batch):
    method, network = make()
    loss = method(make_batch())["loss"]
    assert loss.shape == ()
    assert torch.isfinite(loss)
    loss.backward()
    trained = [p for p in method.parameters() if p.requires_grad]
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in trained)
    parts = [getattr(network, part) for part in EXPORTS.get(type(method).__name__, ["encoder"])]
    learning = [part for part in parts if any(p.requires_grad for p in part.parameters())]
    assert learning
    for part in learning:
        assert any(p.grad is not None and p.grad.any() for p in part.parameters())
    assert all(p.grad is None for p in method.parameters() if not p.requires_grad)


def test_evaluation_changes_nothing(make, make_batch):
    method = make()[0].eval()
    before = copy.deepcopy(method.state_dict())
    method(make_batch())
    assert all(torch.equal(value, before[name]) for name, value in method.state_dict().items())


@pytest.mark.parametrize("make", sorted(MAKERS.keys() - CANNOT_COLLAPSE), indirect=True)
def test_how_far_its_embeddings_are_from_collapse_is_told(make, make_batch):
    output = make()[0](make_batch())
    assert 0 < output["spread"].item() <= 1
    assert output["rank"].item() >= 1


def test_the_seed_decides_the_loss(make, make_batch):
    assert torch.equal(make()[0](make_batch())["loss"], make()[0](make_batch())["loss"])


def test_the_state_makes_a_twin(make, make_batch):
    method, twin = make()[0], make()[0]
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    method(make_batch())["loss"].backward()
    optimizer.step()
    twin.load_state_dict(method.state_dict())
    losses = []
    for model in (method, twin):
        torch.manual_seed(1)
        losses.append(model(make_batch())["loss"])
    assert torch.equal(*losses)
    assert all(torch.equal(value, method.state_dict()[name]) for name, value in twin.state_dict().items())


def test_bfloat16_gives_a_float32_loss_close_by(make, make_batch):
    method, _ = make()
    with torch.autocast("cpu", torch.bfloat16):
        half = method(make_batch())["loss"]
    assert half.dtype == torch.float32
    half.backward()
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.requires_grad)
    assert half.item() == pytest.approx(make()[0](make_batch())["loss"].item(), rel=0.1)


def test_a_device_need_not_wait_for_a_step(make, make_batch):
    method, _ = make()
    with FakeTensorMode(allow_non_fake_inputs=True):  # which has no values to look at
        method(make_batch())["loss"].backward()


def test_a_step_takes_as_many_kernels_for_any_number_of_slices(make, make_batch):
    counts = [count_kernels(lambda n=n: make()[0](make_batch(n))["loss"].backward()) for n in (4, 8)]
    assert counts[0] == counts[1]


def test_what_it_has_learnt_fits_a_network_for_other_classes(make, make_batch, tmp_path):
    method, network = make()
    parts = EXPORTS.get(type(method).__name__, ["encoder"])
    before = copy.deepcopy(part_state(network, parts))
    optimizer = torch.optim.SGD(method.parameters(), lr=0.1)
    method(make_batch())["loss"].backward()
    optimizer.step()
    torch.save(part_state(network, parts), tmp_path / "model.pt")
    other = make_network(type(method).__name__, 7)
    taken = load_pretrained(other, tmp_path / "model.pt")
    assert taken == list(before)
    weights = [name for name, _ in network.named_parameters() if name in before]
    assert any(not torch.equal(other.state_dict()[name], before[name]) for name in weights)


@pytest.mark.parametrize("make", sorted(MAKERS.keys() - ONE_VIEW), indirect=True)
def test_batch_statistics_see_one_view_at_a_time(make, make_batch):
    data = make_batch()
    data["view_2"] = data["view_2"] * 5 + 3
    seen = []
    method, _ = make()
    method.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    method(data)
    assert torch.equal(seen[0], data["view_1"])
    assert all(len(images) == len(data["view_1"]) for images in seen)
