import pytest
import torch

from medssl.networks import ResNetUNet, TwoBranchUNet, UNet, load_pretrained, part_state


def test_joins_a_resnet_and_a_u_net_into_one_map_of_logits():
    network = TwoBranchUNet(ResNetUNet(None), UNet(None, width=64), out_channels=7).to("meta")
    assert network.head.in_channels == 128
    assert network(torch.empty(2, 1, 64, 64, device="meta")).shape == (2, 7, 64, 64)


def test_both_branches_and_the_head_decide_the_logits_and_learn():
    network = TwoBranchUNet(UNet(None, width=2), UNet(None, width=4), out_channels=3)
    network(torch.randn(2, 1, 32, 32)).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    for part in (network.global_branch, network.local_branch, network.head):
        assert any(p.grad.any() for p in part.parameters())


def test_each_branch_takes_its_own_checkpoint(tmp_path):
    pretrained = {"global": UNet(4, width=2), "local": UNet(4, width=4)}
    torch.save(part_state(pretrained["global"], ["encoder"]), tmp_path / "global.pt")
    torch.save(part_state(pretrained["local"], ["encoder", "decoder"]), tmp_path / "local.pt")
    network = TwoBranchUNet(UNet(None, width=2), UNet(None, width=4), out_channels=3)
    load_pretrained(network.global_branch, tmp_path / "global.pt")
    load_pretrained(network.local_branch, tmp_path / "local.pt")
    state = network.state_dict()
    for branch, parts in (("global", ["encoder"]), ("local", ["encoder", "decoder"])):
        for name, tensor in part_state(pretrained[branch], parts).items():
            assert torch.equal(state[f"{branch}_branch.{name}"], tensor)


def test_refuses_a_branch_with_a_head():
    with pytest.raises(ValueError, match="must have no head, got a UNet with one: out_channels=None"):
        TwoBranchUNet(UNet(None, width=2), UNet(4, width=2), out_channels=3)
