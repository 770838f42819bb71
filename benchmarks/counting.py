"""Count the kernels that a computation dispatches."""

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

IDLE = ("aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty", "aten::detach", "aten::alias")


class KernelCounter(TorchDispatchMode):
    """While active, count the operations that touch data: no views, no bare allocations."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count one operation and run it."""
        self.kernels += not (func.is_view or func.name().split(".")[0] in IDLE)
        return func(*args, **(kwargs or {}))


def count_kernels(function: Callable[[], object]) -> int:
    """Run ``function``, forward and backward as it may be, and return the number of its kernels."""
    with KernelCounter() as counter:
        function()
    return counter.kernels
