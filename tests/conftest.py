import os
from pathlib import Path

import numpy as np
import pytest
import torch

DATA = Path(os.environ.get("MEDSSL_DATA") or Path(__file__).parents[1] / "data")


@pytest.fixture(autouse=True)
def _same_draws_every_time():
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture
def data_set(request):
    """Folder of the data set that the test's ``data`` marker names; the test is skipped where it is absent."""
    folder = DATA / request.node.get_closest_marker("data").args[0]
    if not folder.is_dir():
        pytest.skip(f"no {folder.name} below {DATA}")
    return folder


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    marker = item.get_closest_marker("data")
    if report.skipped and marker is not None and (DATA / marker.args[0]).is_dir():
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped although its data lies in {DATA / marker.args[0]}"
    return report
