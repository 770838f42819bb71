import resource
import signal
import subprocess
import sys

import pytest
import torch

from medssl.atomic import previous, replace


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    file = tmp_path / "a.txt"
    replace(file, lambda path: path.write_text("old"))

    def fail(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(
        OSError,
        match=r"could not write .*a.txt: .*No space left on device \(\d+ MiB free there\); the previous one is intact",
    ):
        replace(file, fail)
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_torch_on_a_full_disk_is_told_so_and_the_old_weights_stay(tmp_path):
    """A limit on the size of files is as near to a full disk as a test comes."""
    code = (
        "import sys, torch\nfrom pathlib import Path\nfrom medssl.atomic import replace\n"
        "replace(Path(sys.argv[1]), lambda file: torch.save(torch.zeros(10**6), file))"
    )

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    file = tmp_path / "model.pt"
    torch.save(torch.ones(3), file)
    command = [sys.executable, "-c", code, str(file)]
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True)
    assert "the previous one is intact" in done.stderr
    assert torch.load(file, weights_only=True).sum() == 3
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_the_one_before_is_kept_where_asked(tmp_path):
    file = tmp_path / "a.txt"
    for text in "abc":
        replace(file, lambda path, text=text: path.write_text(text), keep=True)
    assert file.read_text() == "c"
    assert previous(file).read_text() == "b"
