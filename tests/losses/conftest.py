import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # benchmarks/ is beside the package, not in it


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
