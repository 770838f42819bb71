"""One call of a bundle, in a process of its own, and the record that it is through."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from medssl.atomic import replace
from medssl.data import Manifest
from medssl.engine import versions


@dataclass(frozen=True)
class Run:
    """One call of a bundle.

    Attributes:
        bundle: ``"pretrain"`` or ``"finetune"``.
        configs: base and overlays, absolute paths.
        overrides: of ids in the configs.
        manifest: of the data.
        folder: the run's own; receives its output, ``log.txt`` and, when it is through, ``finished.json``.
        threads: that torch may use.
        before: the pre-trainings it starts from, by the option that takes their weights.
    """

    bundle: str
    configs: tuple[str, ...]
    overrides: Mapping[str, Any]
    manifest: Manifest
    folder: Path
    threads: int = 1
    before: Mapping[str, Run] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What a person calls it: method and cell, or overlays."""
        return "/".join(self.folder.parts[-2:])

    @property
    def recipe(self) -> dict[str, Any]:
        """What decides the outcome; two runs of one recipe are the same run."""
        names = [Path(config).name for config in self.configs]
        hashes: dict[str, list[str]] = {name: [] for name in names}
        for name, config in zip(names, self.configs, strict=True):
            hashes[name].append(content_hash(config, Path(config).stat().st_mtime_ns))
        data, before = self.manifest.sha256, {option: run.recipe for option, run in self.before.items()}
        parts = {"order of overlays": names, **hashes, "manifest": data, **self.overrides, "before": before}
        return dict(json.loads(json.dumps(parts)))

    @property
    def finished(self) -> bool:
        """Whether the run is through.

        Raises:
            ValueError: if the folder holds a run of another recipe.
        """
        file = self.folder / "finished.json"
        if not file.is_file():
            return False
        done, recipe = json.loads(file.read_text(encoding="utf-8"))["recipe"], self.recipe
        changed = [name for name in done.keys() | recipe.keys() if done.get(name) != recipe.get(name)]
        if changed:
            raise ValueError(
                f"{self.folder} was run with other {', '.join(sorted(changed))}; "
                "choose another output_dir, or remove it."
            )
        return True


def execute(run: Run) -> float:
    """Run a bundle in a process of its own and return the seconds it took.

    The folder keeps the call, ``arguments.json`` for ``python -m monai.bundle run --args_file``, and all it printed,
    ``log.txt``.

    Raises:
        RuntimeError: with the error that ends the log, or the signal that ended the process.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    folders = {"bundle_root": str(run.folder), "output_dir": str(run.folder)}
    data = {"manifest_file": str(run.manifest.path.absolute()), "dataset_dir": str(run.manifest.root.absolute())}
    arguments = {"config_file": list(run.configs), **data, **folders, **run.overrides}
    call = json.dumps(arguments, indent=1)
    replace(run.folder / "arguments.json", lambda file: file.write_text(call, encoding="utf-8"))
    resumed = (run.folder / "last.pt").is_file()
    command = [sys.executable, "-m", "monai.bundle", "run", "--args_file", str(run.folder / "arguments.json")]
    begin, recipe = time.monotonic(), run.recipe  # the configs may be edited while it runs
    with (run.folder / "log.txt").open("a", encoding="utf-8") as log:
        threads = {"OMP_NUM_THREADS": str(run.threads)}
        status = subprocess.run(command, stdout=log, stderr=log, env=os.environ | threads).returncode
    seconds = time.monotonic() - begin
    if status < 0:
        cause = ", most often because memory ran out" if -status == signal.SIGKILL else ""
        raise RuntimeError(f"killed by {signal.Signals(-status).name}{cause}")
    if status == 128 + signal.SIGTERM:
        raise RuntimeError("stopped by SIGTERM; the same command continues it")
    if status > 0:
        raise RuntimeError(last_error((run.folder / "log.txt").read_text(encoding="utf-8", errors="replace")))
    facts = {"recipe": recipe, "seconds": round(seconds, 1), "resumed": resumed, "versions": versions()}
    text = json.dumps(facts, indent=1)
    replace(run.folder / "finished.json", lambda file: file.write_text(text, encoding="utf-8"))
    return seconds


@cache
def content_hash(config: str, modified: int) -> str:
    """Return the hash of what a config says; its comments decide nothing.

    A grid asks for the same ones many times; the time at which a file was ``modified`` tells its versions apart.
    """
    content = json.dumps(ConfigParser.load_config_file(config), default=str)
    return hashlib.sha256(content.encode()).hexdigest()


def last_error(log: str) -> str:
    """Return the last line that is not indented, and what follows it: an error with all its lines."""
    lines = log.rstrip().splitlines()
    begins = [number for number, line in enumerate(lines) if line[:1].strip()]
    return "\n".join(lines[begins[-1] :]) if begins else ""
