import pytest
import torch

from medssl.engine import AutocastInferer, bfloat16_is_fast


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


@pytest.mark.parametrize(("capability", "fast"), [("AVX512", True), ("AVX2", False), ("DEFAULT", False)])
def test_bfloat16_is_left_alone_where_a_cpu_only_emulates_it(monkeypatch, capability, fast):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)

    assert bfloat16_is_fast(torch.device("cpu")) is fast


@pytest.mark.parametrize("native", [True, False])
def test_bfloat16_is_left_alone_where_a_gpu_only_emulates_it(monkeypatch, native):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: native or including_emulation)

    assert bfloat16_is_fast(torch.device("cuda")) is native
