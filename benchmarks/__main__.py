"""Run all benchmarks: ``python -m benchmarks``, with ``--quick`` small sizes."""

from benchmarks import (
    choosing_scans,
    global_positional,
    joint_elastic,
    local_alignment,
    local_region_contrast,
    slice_store,
    step,
)
from benchmarks.measuring import main

main(
    [
        global_positional.run,
        local_alignment.run,
        local_region_contrast.run,
        joint_elastic.run,
        slice_store.run,
        step.run,
        choosing_scans.run,
    ],
    output="benchmarks/results",
)
