import logging
import math
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator

from medssl.engine import AutocastInferer, BestWeights, CaseMetrics, CollapseMonitor, Progress, ScalarLog, read_receipt
from medssl.engine.case_metrics import known_counts
from medssl.engine.scalars import scalars


def test_every_iteration_has_its_row_and_a_resume_drops_what_it_repeats(make_trainer, tmp_path):
    trainer = make_trainer(max_epochs=2)
    ScalarLog(tmp_path, trainer.optimizer).attach(trainer)
    trainer.run()
    first = pd.read_csv(tmp_path / "scalars.csv")
    assert first["iteration"].tolist() == [1, 2, 3, 4, 5, 6]
    assert list(first.columns) == ["epoch", "iteration", "loss", "lr"]
    again = make_trainer(max_epochs=2)
    ScalarLog(tmp_path, again.optimizer).attach(again)
    again.add_event_handler(Events.STARTED, lambda engine: vars(engine.state).update(epoch=1, iteration=3))
    again.run()
    second = pd.read_csv(tmp_path / "scalars.csv")
    assert second["iteration"].tolist() == [1, 2, 3, 4, 5, 6]
    assert second["loss"][:3].tolist() == first["loss"][:3].tolist()
    assert list(tmp_path.glob("events.out.tfevents.*"))


def test_the_terms_of_a_method_are_scalars_too(make_trainer):
    trainer = make_trainer(max_epochs=1)
    trainer.run()
    trainer.state.output = {"loss": torch.tensor(2.0), "pred": {"positional": torch.tensor(1.5), "map": torch.ones(3)}}
    assert scalars(trainer) == {"loss": 2.0, "positional": 1.5}


def test_one_bar_counts_the_whole_run(make_trainer, capsys):
    make_trainer([Progress("tiny", interval=1)], max_epochs=2).run()
    shown = capsys.readouterr().err
    assert "tiny: 100%" in shown
    assert "6/6" in shown
    assert "loss=" in shown


def outputs(values, spread):
    for value in values:
        yield {"loss": torch.tensor(value), "pred": {"positional": torch.tensor(value), "spread": torch.tensor(spread)}}


@pytest.mark.parametrize(
    ("values", "spread", "warns"),
    [([math.log(31)] * 10, 0.01, True), ([math.log(31)] * 10, 0.9, False), ([3.0] * 10, 0.01, False)],
)
def test_warns_only_where_loss_and_spread_both_say_collapse(make_trainer, caplog, values, spread, warns):
    trainer = make_trainer()
    monitor = CollapseMonitor("positional", math.log(31), patience=5)
    for trainer.state.output in outputs(values, spread):
        monitor(trainer)
    assert ("collapse constant 3.4340 for 5 iterations" in caplog.text) == warns
    assert sum(record.levelno == logging.WARNING for record in caplog.records) == (2 if warns else 0)


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


@pytest.fixture
def evaluate(tmp_path):
    """Evaluate three cases of two classes whose predictions are given."""
    truth = torch.tensor([[0, 1, 1, 2], [0, 0, 1, 1], [0, 0, 0, 0]])
    pred = torch.tensor([[0, 1, 2, 2], [0, 0, 1, 1], [0, 0, 0, 2]])

    def run(epoch, **kwargs):
        onehot = [torch.nn.functional.one_hot(x, 3).T.float() for x in (*truth, *pred)]
        data = [
            {"image": p, "label": t, "case_id": f"c{i}", "subject_id": "s"}
            for i, (t, p) in enumerate(zip(onehot[:3], onehot[3:], strict=True))
        ]
        handler = CaseMetrics(tmp_path / "metrics.csv", ["background", "a", "b"], **kwargs)
        evaluator = SupervisedEvaluator(
            "cpu", DataLoader(Dataset(data), batch_size=2), torch.nn.Identity(), val_handlers=[handler]
        )
        evaluator.run(epoch)
        # c0: 2/3 and 2/3; c1: 1 and nothing to find; c2: nothing to find and a false alarm
        assert evaluator.state.metrics["dice"] == pytest.approx((2 / 3 + 1 + 0) / 3)
        return pd.read_csv(tmp_path / "metrics.csv")

    return run


def test_counts_each_case_and_class_and_leaves_doubly_empty_ones_out(evaluate):
    rows = evaluate(1).set_index(["case_id", "class"])
    assert rows.loc[("c0", "a"), ["tp", "fp", "fn"]].tolist() == [1, 0, 1]
    assert rows.loc[("c0", "a"), "dice"] == pytest.approx(2 / 3)
    assert rows.loc[("c1", "a"), "dice"] == 1
    assert math.isnan(rows.loc[("c1", "b"), "dice"])  # neither truth nor prediction
    assert rows.loc[("c2", "b"), "dice"] == 0  # a false alarm
    assert "step" not in rows


def test_a_class_that_was_not_contoured_is_neither_hit_nor_missed():
    truth, pred = (torch.nn.functional.one_hot(torch.tensor(x), 3).T for x in ([0, 1, 1, 0], [0, 1, 2, 2]))
    output = {"pred": pred, "label": truth}
    counts = known_counts({"known": torch.tensor([True, True, False])}, output)
    assert counts.tolist() == [[1, 0, 1], [0, 0, 0]]
    assert known_counts({}, output).tolist() == [[1, 0, 1], [0, 2, 0]]


def test_evaluations_during_training_make_a_curve_without_repeats(evaluate):
    evaluate(1, steps_per_epoch=10)
    evaluate(2, steps_per_epoch=10)
    rows = evaluate(2, steps_per_epoch=10)  # a resumed run evaluates again
    assert rows.groupby("step").size().to_dict() == {10: 6, 20: 6}


def test_the_best_weights_are_kept_with_their_score_and_a_repeated_epoch_is_judged_again(tmp_path):
    engine = SimpleNamespace(state=SimpleNamespace(metrics={}, epoch=0))
    keep = BestWeights(tmp_path / "best.pt", lambda: {"epoch": torch.tensor(engine.state.epoch)}, {"selection": "x"})
    for epoch, score, best in [(1, 0.5, 1), (2, 0.4, 1), (3, 0.7, 3), (3, 0.6, 3), (4, 0.65, 4)]:
        engine.state.epoch, engine.state.metrics["dice"] = epoch, score
        keep(engine)
        assert torch.load(tmp_path / "best.pt", weights_only=True)["epoch"] == best
    receipt = read_receipt(tmp_path / "best.pt")
    assert (receipt["score"], receipt["epoch"], receipt["selection"]) == (0.65, 4, "x")
    engine.state.epoch, engine.state.metrics["dice"] = 5, 0.1
    BestWeights(tmp_path / "best.pt", keep.weights, {"selection": "y"})(engine)  # another run's best is none
    assert read_receipt(tmp_path / "best.pt")["score"] == 0.1
