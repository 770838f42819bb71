import logging

import pytest
import torch

from medssl.networks import LinearProbe, UNet, UNetEncoder, load_pretrained, part_state


@pytest.fixture
def network():
    return UNet(2, width=2)


def save(path, state):
    torch.save(state, path)
    return path


def test_takes_the_encoder_and_leaves_the_rest_alone(tmp_path, network, caplog):
    source = UNet(5, width=2)
    decoder = {name: tensor.clone() for name, tensor in network.decoder.state_dict().items()}
    with caplog.at_level(logging.INFO):
        taken = load_pretrained(network, save(tmp_path / "model.pt", part_state(source, ["encoder"])))
    assert len(taken) == len(source.encoder.state_dict())
    assert f"took {len(taken)} of {len(network.state_dict())} tensors" in caplog.text
    for name, tensor in source.encoder.state_dict().items():
        assert torch.equal(network.encoder.state_dict()[name], tensor)
    for name, tensor in decoder.items():
        assert torch.equal(network.decoder.state_dict()[name], tensor)


def test_takes_one_part_of_weights_that_have_more_where_it_is_asked_to(tmp_path):
    source, encoder_alone = UNet(5, width=2), LinearProbe(UNetEncoder(width=2), out_channels=2)
    path = save(tmp_path / "model.pt", part_state(source, ["encoder", "decoder"]))
    taken = load_pretrained(encoder_alone, path, ["encoder"])
    assert all(torch.equal(encoder_alone.state_dict()[name], source.state_dict()[name]) for name in taken)
    assert len(taken) == len(source.encoder.state_dict())
    with pytest.raises(ValueError, match=r"model.pt has no part 'head'; it has encoder \(\d+\), decoder \(\d+\)"):
        load_pretrained(encoder_alone, path, ["head"])


def test_refuses_a_name_without_a_place(tmp_path, network):
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"module.encoder.levels.0.conv_0.conv.weight has no place.*and \d+ more"):
        load_pretrained(network, save(tmp_path / "model.pt", state))


def test_refuses_another_width(tmp_path, network):
    with pytest.raises(ValueError, match=r"is \(4, 1, 3, 3\) here, \(2, 1, 3, 3\) in the network"):
        load_pretrained(network, save(tmp_path / "model.pt", part_state(UNet(2, width=4), ["encoder"])))


def test_the_refusal_ends_with_what_the_receipt_says_of_the_network(tmp_path, network):
    path = save(tmp_path / "model.pt", part_state(UNet(2, width=4), ["encoder"]))
    (tmp_path / "model.json").write_text('{"network": "UNet", "width": 4, "seed": 0}')
    with pytest.raises(
        ValueError,
        match=r"the weights are of, by their receipt network UNet, width 4; list the overlays of their training",
    ):
        load_pretrained(network, path)


def test_refuses_half_an_encoder_and_changes_nothing(tmp_path, network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    half = {n: t + 1 for n, t in part_state(network, ["encoder"]).items() if "centre" not in n}
    with pytest.raises(ValueError, match="is missing, though encoder is not"):
        load_pretrained(network, save(tmp_path / "model.pt", half))
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_refuses_an_empty_file_and_a_nested_one(tmp_path, network):
    with pytest.raises(ValueError, match="it is empty"):
        load_pretrained(network, save(tmp_path / "empty.pt", {}))
    with pytest.raises(ValueError, match="flat state_dict"):
        load_pretrained(network, save(tmp_path / "nested.pt", {"model": network.state_dict()}))


def test_never_unpickles_objects(tmp_path, network):
    with pytest.raises(ValueError, match=r"model.pt is no readable checkpoint of weights alone \(UnpicklingError\)"):
        load_pretrained(network, save(tmp_path / "model.pt", network))


def test_other_files_and_folders_are_said_to_be_none(tmp_path, network):
    for text in ("{}", "hello"):  # torch raises UnpicklingError, KeyError
        (tmp_path / "model.json").write_text(text)
        with pytest.raises(ValueError, match=r"model.json is no readable checkpoint of weights alone"):
            load_pretrained(network, tmp_path / "model.json")
    with pytest.raises(FileNotFoundError, match=r"got the folder .*; give .*model.pt"):
        load_pretrained(network, tmp_path)


def test_says_what_to_do_without_a_file(tmp_path, network):
    with pytest.raises(FileNotFoundError, match="run the pretrain bundle first"):
        load_pretrained(network, tmp_path / "missing.pt")


def test_exports_only_parts_that_exist(network):
    assert {name.split(".")[0] for name in part_state(network, ["encoder", "decoder"])} == {"encoder", "decoder"}
    with pytest.raises(ValueError, match="has no part 'backbone'"):
        part_state(network, ["backbone"])
