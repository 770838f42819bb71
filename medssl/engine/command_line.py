"""What ``python -m monai.bundle run`` lets pass: options that no config knows, and causes far up in a traceback."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser, run
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS
from tqdm import tqdm

SPELLINGS = {"true": "True", "false": "False", "null": "'$None'", "none": "'$None'"}


def guard_command_line(argv: Sequence[str] | None = None) -> None:
    """Check the options of ``python -m monai.bundle run``, and from now on repeat an error's cause as its last line.

    MONAI adds an option that no config knows, drops one that is None, and reads ``false`` as a word, which is true.
    Called from anywhere else, by Python code for instance, this does nothing. Arguments of a constructor are left to
    the constructor.

    Args:
        argv: the command line; None is the process's own.

    Raises:
        ValueError: listing the options that would not do what they say.
    """
    program, *arguments = sys.argv if argv is None else argv
    if Path(program).parts[-3:] != ("monai", "bundle", "__main__.py") or arguments[:1] != ["run"]:
        return
    sys.excepthook = show_cause
    given = options(arguments)
    called_with = given
    if "args_file" in given:
        called_with = {**ConfigParser.load_config_file(str(given["args_file"])), **given}
    config = ConfigParser()
    config.read_config(called_with.get("config_file"))
    own = {*inspect.signature(run).parameters, *DEFAULT_MLFLOW_SETTINGS["configs"]}
    problems = [
        problem
        for name in called_with
        if name not in own and (problem := unknown(name, config.config, {*config.config, *own}))
    ]
    for name, value in given.items():
        if value is None and name in config and config[name] is not None:
            problems.append(f"--{name} None: MONAI drops it; write --{name} '$None'")
        elif isinstance(value, str) and value in SPELLINGS:
            problems.append(f"--{name} {value}: a word here; write --{name} {SPELLINGS[value]}")
    if problems:
        raise ValueError("\n  ".join(["options that would not do what they say:", *problems]))


def options(arguments: Sequence[str]) -> dict[str, Any]:
    """Read options as fire does: ``--name value``, ``--name=value`` and, for True, ``--name``; one dash is enough."""
    found: dict[str, Any] = {}
    is_option = re.compile(r"--?[A-Za-z_+~]")
    for argument, following in zip(arguments, [*arguments[1:], "--end"], strict=True):
        if is_option.match(argument):
            name, equals, value = argument.lstrip("-").partition("=")
            text = value if equals else "True" if is_option.match(following) else following
            found[name.replace("-", "_")] = DefaultParseValue(text)
    return found


def unknown(name: str, config: Any, roots: Iterable[str]) -> str | None:
    """Return what is wrong with an id that the config does not hold, or None."""
    parts = re.split("#|::", name.lstrip("+~"))
    for depth, part in enumerate(parts):
        if isinstance(config, dict) and part not in config:
            if depth > 0 and "_target_" in config:
                return None  # an argument of a constructor
            close = difflib.get_close_matches(part, roots if depth == 0 else config, n=1)
            meant = "#".join([*parts[:depth], *close])
            return f"--{name}: no config has it" + (f"; did you mean --{meant}?" if close else "")
        if not isinstance(config, dict):
            return None  # a list's item, or an expression's
        config = config[part]
    return None


def show_cause(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback and, last, what MONAI's own errors were raised from."""
    # Open bars would be drawn once more, below the reason, as Python ends.
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()
    sys.__excepthook__(kind, error, trace)
    cause = reason(error)
    if cause is not error:
        sys.stderr.write(f"\n{type(cause).__name__}: {cause}\n")


def reason(error: BaseException) -> BaseException:
    """Return what MONAI's errors, which name a component or an expression, were raised from."""
    while type(error) is RuntimeError and error.__cause__ is not None:
        error = error.__cause__
    return error
