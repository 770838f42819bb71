"""Run all benchmarks: ``python -m benchmarks``, with ``--quick`` small sizes."""

from benchmarks import global_positional, local_alignment
from benchmarks.measuring import main

main([global_positional.run, local_alignment.run], output="benchmarks/results")
