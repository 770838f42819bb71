"""A grid of pre-trainings and fine-tunings: methods x labels x folds x draws, run once each."""

import re
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from medssl.benchmark.results import run_folder
from medssl.benchmark.run import Run, execute
from medssl.data import Manifest, split
from medssl.resources import bundle_configs

ConfigOverlays = Sequence[str | Mapping[str, Any]]
Method = ConfigOverlays | Mapping[str, ConfigOverlays | None] | None


class Grid:
    """Pre-train every method, fine-tune it on every number of labels, fold and draw, and skip what is finished.

    All methods meet the same subjects, steps and seeds: what differs is the pre-training alone.

    Args:
        output_dir: folder of all runs.
        manifest: of the data.
        methods: by name, the overlays of the pretrain bundle that make the method; None for no pre-training. Where the
            fine-tuning takes several weights, or overlays of its own: a dictionary of the options that take weights,
            such as ``pretrained_global``, with the overlays that make them, and ``finetune``, its own overlays. An
            overlay is a name in the bundle's ``configs``, a path, or a mapping of options to values. Pre-trainings of
            the same overlays are made once.
        num_labelled: numbers of labelled subjects; None for all.
        folds: held out in turn.
        draws: by number of labelled subjects, how many label draws; 1 where it is not named.
        pretrain: ``overlays`` and ``overrides`` of every pre-training.
        finetune: ``overlays`` and ``overrides`` of every fine-tuning.
        transductive: pre-train once, on the images of all subjects; False pre-trains per fold, without those of its
            test subjects.
        threads: that torch may use in each run.
        pretrain_dir: folder of the pre-trainings, for grids that share them; None is ``pretrain`` in ``output_dir``.
    """

    def __init__(
        self,
        output_dir: str | Path,
        manifest: Manifest,
        methods: Mapping[str, Method],
        num_labelled: Sequence[int | None],
        folds: Sequence[int],
        draws: Mapping[Any, int] | None = None,
        pretrain: Mapping[str, Any] | None = None,
        finetune: Mapping[str, Any] | None = None,
        transductive: bool = True,
        threads: int = 1,
        pretrain_dir: str | Path | None = None,
    ) -> None:
        self.output_dir, self.manifest, self.methods = Path(output_dir).absolute(), manifest, dict(methods)
        self.pretrain_dir = Path(pretrain_dir or self.output_dir / "pretrain").absolute()
        self.num_labelled, self.folds, self.transductive = list(num_labelled), list(folds), transductive
        self.draws = {str(number): count for number, count in (draws or {}).items()}
        self.pretrain, self.finetune, self.threads = pretrain or {}, finetune or {}, threads
        if unknown := [key for key in self.draws if not key.isdecimal()]:
            raise ValueError(
                f"draws must be given by number of labelled subjects, got {', '.join(unknown)}; "
                "all of them are one draw."
            )
        if None in self.folds:
            raise ValueError("folds must be numbers, got null; the manifest's own test section makes no grid.")
        if wrong := [name for name in self.methods if not re.fullmatch(r"[\w.+=-]+", name)]:
            raise ValueError(f"methods name folders: letters, digits and _ . + = - alone, got {', '.join(wrong)}.")

    def pretraining(self, overlays: ConfigOverlays, fold: int) -> Run:
        """Return the pre-training that some overlays make for a fine-tuning on ``fold``."""
        folder = self.pretrain_dir / name_of(overlays) / ("all" if self.transductive else f"fold{fold}")
        files, options = split_overlays(overlays)
        own = {"fold": None if self.transductive else fold, "transductive": self.transductive}
        configs = bundle_configs("pretrain", [*files, *self.pretrain.get("overlays", [])])
        overrides = {**self.pretrain.get("overrides", {}), **options, **own}
        return Run("pretrain", configs, overrides, self.manifest, folder, self.threads)

    def finetunings(self) -> list[Run]:
        """List every fine-tuning, comparable ones side by side.

        Raises:
            ValueError: if different pre-trainings would share a folder; for a fold or a number of labelled subjects
                that the data set has not; for fine-tunings that do not watch the test fold.
        """
        methods: dict[str, tuple[dict[str, ConfigOverlays], tuple[str, ...], dict[str, Any]]] = {}
        for name, method in self.methods.items():
            weights, overlays = weights_and_overlays(method)
            files, options = split_overlays(overlays)
            configs = bundle_configs("finetune", [*files, *self.finetune.get("overlays", [])])
            if any(Path(file).name == "select_best.yaml" for file in configs):
                raise ValueError(
                    "a grid tables the last weights on the test fold; select_best.yaml watches held-out subjects "
                    "instead: leave it out, and test best.pt with evaluate.yaml."
                )
            methods[name] = weights, configs, options
        listed = []
        for draw in range(max([1, *self.draws.values()])):
            for number in self.num_labelled:
                if draw >= self.draws.get(label_of(number), 1):
                    continue
                for fold in self.folds:
                    split(self.manifest, fold, number, draw)  # refuses what cannot be drawn, before hours of others
                    for name, (weights, configs, options) in methods.items():
                        before = {option: self.pretraining(made_by, fold) for option, made_by in weights.items()}
                        folder = run_folder(self.output_dir, name, label_of(number), fold, draw)
                        own = {"fold": fold, "num_labelled": number, "draw": draw}
                        start = {option: str(run.folder / "model.pt") for option, run in before.items()}
                        overrides = {**self.finetune.get("overrides", {}), **options, **own, **start}
                        listed.append(Run("finetune", configs, overrides, self.manifest, folder, self.threads, before))
        recipes: dict[Path, dict[str, Any]] = {}
        for first in (before for run in listed for before in run.before.values()):
            recipe = first.recipe
            if recipes.setdefault(first.folder, recipe) != recipe:
                raise ValueError(
                    f"two pre-trainings would share {first.folder}: give overlays that differ other names."
                )
        return listed

    def run(self, executor: Executor) -> None:
        """Run what is not finished.

        Args:
            executor: any that follows ``concurrent.futures``: threads, since every run is a process of its own, or a
                Dask client's for a cluster.

        Raises:
            RuntimeError: at the end, naming the runs that failed and those that could not start without them.
        """
        todo: dict[Path, Run] = {}
        missing: dict[Path, set[Path]] = {}  # by fine-tuning, the pre-trainings that it waits for
        for run in self.finetunings():
            unfinished = {before.folder: before for before in run.before.values() if not before.finished}
            if unfinished or not run.finished:
                todo |= {**unfinished, run.folder: run}
                missing[run.folder] = set(unfinished)
        # Pre-trainings first: they are long, and others wait for them. A fine-tuning starts as soon as its own are
        # through; in two phases all would wait for the longest.
        order = sorted(todo.values(), key=lambda run: run.bundle != "pretrain")
        now = [run for run in order if not missing.get(run.folder)]
        running: dict[Future[float], Run] = {executor.submit(execute, run): run for run in now}
        failed: list[str] = []
        with tqdm(total=len(order), desc="benchmark", unit="run") as bar:
            try:
                while running:
                    names = " ".join(run.name for future, run in running.items() if future.running())
                    if names != bar.postfix:
                        bar.set_postfix_str(names)
                    for future in wait(running, timeout=10, return_when=FIRST_COMPLETED).done:  # names begun runs
                        run, error = running.pop(future), future.exception()
                        bar.update()
                        then = [todo[folder] for folder, before in missing.items() if run.folder in before]
                        if error is None:
                            for next_run in then:
                                missing[next_run.folder].remove(run.folder)
                                if not missing[next_run.folder]:
                                    running[executor.submit(execute, next_run)] = next_run
                        else:
                            failed.append(f"{run.folder}/log.txt: {error}")
                            failed += [f"{next_run.folder}: not run, its pre-training failed" for next_run in then]
                            missing = {folder: before for folder, before in missing.items() if run.folder not in before}
                            bar.update(len(then))
            finally:  # interrupted: the executor would still run what is queued
                for future in running:
                    future.cancel()
        if failed:
            head = f"{len(failed)} runs are missing ('python -m monai.bundle run report' tables the others):"
            raise RuntimeError("\n".join([head, *failed]))


def split_overlays(overlays: ConfigOverlays) -> tuple[list[str], dict[str, Any]]:
    """Return the files among overlays, and the options of all mappings among them."""
    files = [overlay for overlay in overlays if isinstance(overlay, str)]
    options = {name: value for mapping in overlays if isinstance(mapping, Mapping) for name, value in mapping.items()}
    return files, options


def name_of(overlays: ConfigOverlays) -> str:
    """Return a folder's name for overlays: ``"lrc+num_samples=10"``."""
    files, options = split_overlays(overlays)
    parts = [Path(file).stem for file in files] + [f"{option}={value}" for option, value in options.items()]
    return re.sub(r"[^\w.=+-]+", "_", "+".join(parts))


def weights_and_overlays(method: Method) -> tuple[dict[str, ConfigOverlays], ConfigOverlays]:
    """Return the overlays that make the weights a method starts from, by option, and those of its fine-tuning."""
    options = dict(method) if isinstance(method, Mapping) else {"pretrained": method}
    overlays = options.pop("finetune", None) or []
    return {option: made_by for option, made_by in options.items() if made_by is not None}, overlays


def label_of(number: int | None) -> str:
    """Return how a number of labelled subjects is written: ``"2"`` or ``"all"``."""
    return "all" if number is None else str(number)
