import json
import os
import signal
import subprocess
import sys

import pytest
import torch
from filelock import FileLock
from ignite.engine import Events

from medssl.atomic import previous
from medssl.engine import Checkpoint, NonFiniteGuard, read_receipt
from medssl.engine.checkpoint import load_last, save_weights


@pytest.fixture
def start(make_trainer, tmp_path):
    """Run the tiny training with a checkpoint in ``tmp_path``.

    ``stop_at`` raises in the middle of that epoch, ``terminate_at`` sends SIGTERM in that step.
    """

    def start(folder="run", stop_at=None, terminate_at=None, resume=True, seed=3, **kwargs):
        trainer = make_trainer(**kwargs)
        state = {"network": trainer.network, "optimizer": trainer.optimizer, "schedule": trainer.schedule}
        Checkpoint(tmp_path / folder, state, trainer.network.state_dict, {"seed": seed}, resume).attach(trainer)

        def terminate(engine):
            if engine.state.iteration == terminate_at:
                os.kill(os.getpid(), signal.SIGTERM)

        def stop(engine):
            if engine.state.epoch == stop_at and engine.state.iteration % 3 == 2:
                raise RuntimeError("power cut")

        trainer.add_event_handler(Events.ITERATION_STARTED, terminate)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, stop)
        trainer.run()
        return trainer

    return start


def weights(trainer):
    return torch.cat([tensor.flatten() for tensor in trainer.network.state_dict().values()])


@pytest.mark.parametrize("stop_at", [2, 3, 4])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(start, stop_at):
    straight = weights(start("straight"))
    with pytest.raises(RuntimeError, match="power cut"):
        start("stopped", stop_at=stop_at)
    assert torch.equal(weights(start("stopped")), straight)


@pytest.mark.parametrize("step", range(1, 13))
def test_sigterm_keeps_the_step_and_the_run_goes_on_from_there(start, step, tmp_path):
    straight = weights(start("straight"))
    with pytest.raises(SystemExit, match="143"):
        start("stopped", terminate_at=step)
    assert load_last(tmp_path / "stopped" / "last.pt")["iteration"] == step
    assert torch.equal(weights(start("stopped")), straight)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize("workers", [(0, 2), (2, 0)])
def test_workers_may_come_and_go_in_the_midst_of_an_epoch(start, workers):
    straight = weights(start("straight"))
    with pytest.raises(SystemExit):
        start("stopped", terminate_at=5, num_workers=workers[0])
    assert torch.equal(weights(start("stopped", num_workers=workers[1])), straight)


def test_workers_outlive_a_signal_to_all_processes(tmp_path):
    """A scheduler signals every process of a job, from without."""
    code = (
        "import sys, time, torch\n"
        "from monai.data import DataLoader\n"
        "from medssl.engine import leave_sigterm\n"
        "class Slow(torch.utils.data.Dataset):\n"
        "    def __len__(self): return 40\n"
        "    def __getitem__(self, index): time.sleep(0.05); return index\n"
        "import signal; signal.signal(signal.SIGTERM, lambda *_: print('heard', flush=True))\n"
        "print('ready', flush=True)\n"
        "print(sum(len(b) for b in DataLoader(Slow(), num_workers=2, worker_init_fn=leave_sigterm)), flush=True)\n"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.7)
        os.killpg(process.pid, signal.SIGTERM)
        assert process.communicate()[0] == "heard\n40\n"


def test_two_runs_do_not_share_a_folder(start, tmp_path):
    with FileLock(tmp_path / "run" / "run.lock"), pytest.raises(FileExistsError, match="another run is writing to"):
        start()
    start()


def test_the_number_of_workers_changes_nothing_even_across_a_resume(start):
    straight = weights(start("straight"))
    with pytest.raises(RuntimeError, match="power cut"):
        start("stopped", stop_at=3, num_workers=2)
    assert torch.equal(weights(start("stopped", num_workers=1)), straight)


def test_a_finished_run_is_left_as_it_is(start):
    first = weights(start())
    assert torch.equal(weights(start()), first)


def test_the_folder_holds_weights_and_a_receipt(start, tmp_path):
    trainer = start()
    saved = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    assert torch.equal(saved["2.weight"], trainer.network[2].weight)
    receipt = read_receipt(tmp_path / "run" / "model.pt")
    assert receipt["seed"] == 3
    assert receipt["epoch"] == 4
    assert receipt["tensors"] == 2
    assert receipt["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize("broken", ["cut off", "empty", "of another kind"])
def test_the_previous_checkpoint_serves_when_the_newest_is_broken(start, tmp_path, broken):
    straight = weights(start("straight"))
    with pytest.raises(RuntimeError, match="power cut"):
        start("stopped", stop_at=4)
    last = tmp_path / "stopped" / "last.pt"
    last.write_bytes({"cut off": last.read_bytes()[:100], "empty": b"", "of another kind": b"hello"}[broken])
    assert load_last(last)["epoch"] == 2
    assert torch.equal(weights(start("stopped")), straight)


def test_refuses_when_neither_can_be_read(start, tmp_path):
    start()
    for file in (tmp_path / "run" / "last.pt", previous(tmp_path / "run" / "last.pt")):
        file.write_bytes(b"")
    with pytest.raises(ValueError, match="can be read; start afresh"):
        start()


def test_refuses_to_overwrite_a_run_it_may_not_resume(start):
    start()
    with pytest.raises(FileExistsError, match="holds a run; continue it with resume true"):
        start(resume=False)


def test_refuses_a_run_of_another_length_or_recipe(start):
    start()
    with pytest.raises(ValueError, match=r"run of another recipe: max_epochs was 4, is 2. Give it its old recipe"):
        start(max_epochs=2)
    with pytest.raises(ValueError, match="seed was 3, is 5"):
        start(seed=5)


def test_the_one_before_is_kept_with_its_receipt(tmp_path):
    path = tmp_path / "model.pt"
    for value in (1.0, 2.0, 3.0):
        save_weights(path, {"a": torch.tensor(value)}, {"value": value})
    assert torch.load(path, weights_only=True)["a"] == 3
    assert torch.load(tmp_path / "model.previous.pt", weights_only=True)["a"] == 2
    assert json.loads((tmp_path / "model.previous.json").read_text())["value"] == 2


def test_a_kill_at_any_moment_leaves_a_readable_checkpoint(tmp_path):
    code = (
        "import sys, torch\n"
        "from pathlib import Path\n"
        "from medssl.engine.checkpoint import save_weights\n"
        "print('ready', flush=True)\n"
        "for n in range(10**6):\n"
        "    save_weights(Path(sys.argv[1]) / 'model.pt', {'a': torch.full((300_000,), float(n))}, {'n': n})\n"
    )
    for trial in range(3):
        process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.2 + 0.037 * trial)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        saved = torch.load(tmp_path / "model.pt", weights_only=True)["a"]
        assert (saved == saved[0]).all()
        json.loads((tmp_path / "model.json").read_text())


def test_without_a_receipt_nothing_is_guessed(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no weights at .*model.pt; correct the path"):
        read_receipt(tmp_path / "model.pt")
    (tmp_path / "model.pt").touch()
    with pytest.raises(FileNotFoundError, match=r"no receipt .*model.json beside the weights"):
        read_receipt(tmp_path / "model.pt")


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_cases(make_trainer, tmp_path):
    trainer = make_trainer([NonFiniteGuard()], bad_case=4)
    with pytest.raises(FloatingPointError, match=r"the loss became nan at iteration \d.* in a batch of .*case4"):
        trainer.run()
    assert torch.isfinite(weights(trainer)).all()
