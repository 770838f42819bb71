from types import SimpleNamespace

import torch

from medssl.engine import BestWeights, read_receipt


def test_the_best_weights_are_kept_with_their_score_and_a_repeated_epoch_is_judged_again(tmp_path):
    engine = SimpleNamespace(state=SimpleNamespace(metrics={}, epoch=0))
    keep = BestWeights(tmp_path / "best.pt", lambda: {"epoch": torch.tensor(engine.state.epoch)}, {"selection": "x"})
    engine.state.metrics["dice"] = float("nan")  # no class in any case
    keep(engine)
    assert not (tmp_path / "best.pt").exists()
    for epoch, score, best in [(1, 0.5, 1), (2, 0.4, 1), (3, 0.7, 3), (3, 0.6, 3), (4, 0.65, 4)]:
        engine.state.epoch, engine.state.metrics["dice"] = epoch, score
        keep(engine)
        assert torch.load(tmp_path / "best.pt", weights_only=True)["epoch"] == best
    receipt = read_receipt(tmp_path / "best.pt")
    assert (receipt["score"], receipt["epoch"], receipt["selection"]) == (0.65, 4, "x")
    engine.state.epoch, engine.state.metrics["dice"] = 5, 0.1
    BestWeights(tmp_path / "best.pt", keep.weights, {"selection": "y"})(engine)  # another run's best is none
    assert read_receipt(tmp_path / "best.pt")["score"] == 0.1
