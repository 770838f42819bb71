"""A fair comparison: same subjects, steps and seeds for every method."""

from medssl.benchmark.embeddings import plot_embeddings
from medssl.benchmark.figures import plot_differences, plot_learning_curves, plot_overlays
from medssl.benchmark.grid import Grid
from medssl.benchmark.region_quality import compare_superpixels
from medssl.benchmark.report import write_report
from medssl.benchmark.results import case_dice, comparable, pooled_dice, read_results
from medssl.benchmark.tables import learning_curve, mean_std_table, paired_differences, to_markdown

__all__ = [
    "Grid",
    "case_dice",
    "comparable",
    "compare_superpixels",
    "learning_curve",
    "mean_std_table",
    "paired_differences",
    "plot_differences",
    "plot_embeddings",
    "plot_learning_curves",
    "plot_overlays",
    "pooled_dice",
    "read_results",
    "to_markdown",
    "write_report",
]
