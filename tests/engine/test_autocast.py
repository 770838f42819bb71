import pytest
import torch

from medssl.engine import AutocastInferer


@pytest.mark.parametrize(("enabled", "inside"), [(True, torch.bfloat16), (False, torch.float32)])
def test_the_network_computes_in_bfloat16_and_hands_out_float32(enabled, inside):
    network, seen = torch.nn.Linear(4, 4), []

    def infer(inputs, network):
        output = network(inputs)
        seen.append(output.dtype)
        return output

    assert AutocastInferer(infer, enabled)(torch.ones(1, 4), network).dtype == torch.float32
    assert seen == [inside]
    assert network.weight.dtype == torch.float32
