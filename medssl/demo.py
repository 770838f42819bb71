"""The whole loop on phantoms made on the spot: pre-train, fine-tune on two subjects, compare."""

import logging
from pathlib import Path

from monai.bundle import run

from medssl.data import write_phantoms
from medssl.resources import resource

logger = logging.getLogger(__name__)


def demo(folder: Path) -> None:
    """Make phantoms, run the benchmark bundle on them, and say where the table and the pictures are.

    What is finished is skipped: run it again to continue after an interruption.

    Args:
        folder: receives ``phantoms``, ``runs``, the report and the pictures.
    """
    logger.info("1/2 writing phantoms to %s", folder / "phantoms")
    write_phantoms(folder / "phantoms")
    logger.info("2/2 pre-training without labels, fine-tuning on two labelled subjects, with and without it")
    configs = resource("bundles/benchmark") / "configs"
    run(
        config_file=[str(configs / "benchmark.yaml"), str(configs / "phantoms.yaml")],
        dataset_dir=str(folder / "phantoms"),
        output_dir=str(folder / "runs"),
    )
    logger.info(
        "This is how it works, not what it is worth: drawn hearts, few steps, one fold, and draws that may disagree. "
        "Measured on real scans: docs/results."
    )
