import pandas as pd
import pytest
import torch
from ignite.engine import Events

from medssl.engine import ScalarLog, total_loss
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


@pytest.mark.parametrize(
    ("output", "given"),
    [
        (torch.tensor(1.0), "Tensor"),
        ({"agreement": torch.tensor(1.0)}, r"a dictionary of \['agreement'\]"),
        ({"loss": torch.ones(2)}, r"a dictionary of \['loss'\]"),
        ({"loss": 1.0}, r"a dictionary of \['loss'\]"),
    ],
)
def test_a_method_that_returns_no_total_is_told_what_to_return(output, given):
    with pytest.raises(TypeError, match=f'whose "loss" is a scalar tensor, got {given}'):
        total_loss(output, None)
