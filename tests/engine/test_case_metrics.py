import math

import pandas as pd
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator

from medssl.engine import CaseMetrics
from medssl.engine.case_metrics import known_counts


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
