"""What ``python -m monai.bundle run`` lets pass: options that no config knows, and causes far up in a traceback."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser, run

SPELLINGS = {"true": "True", "false": "False", "null": "'$None'", "none": "'$None'"}


def guard_command_line(argv: Sequence[str] | None = None) -> None:
    """Check the options of ``python -m monai.bundle run``, and from now on repeat an error's cause as its last line.

    MONAI adds an option that no config knows, drops one that is None, and reads ``false`` as a word, which is true.
    Called from anywhere else, by Python code for instance, this does nothing.

    Args:
        argv: the command line; None is the process's own.

    Raises:
        ValueError: listing every option that would not do what it says.
    """
    program, *arguments = sys.argv if argv is None else argv
    if Path(program).parts[-3:] != ("monai", "bundle", "__main__.py"):
        return
    sys.excepthook = show_cause
    given = options(arguments)
    called_with = given
    if "args_file" in given:
        called_with = {**ConfigParser.load_config_file(str(given["args_file"])), **given}
    config = ConfigParser()
    config.read_config(called_with.get("config_file"))
    known = {*config.config, *inspect.signature(run).parameters}
    problems = [
        f"--{name}: no config has it{suggestion(root, known)}"
        for name in called_with
        if (root := name.lstrip("+~").split("#")[0].split("::")[0]) not in known
    ]
    for name, value in given.items():
        if name in known and value is None and config.config.get(name) is not None:
            problems.append(f"--{name} None: MONAI drops it; write --{name} '$None'")
        elif isinstance(value, str) and value in SPELLINGS:
            problems.append(f"--{name} {value}: a word here; write --{name} {SPELLINGS[value]}")
    if problems:
        raise ValueError("\n  ".join(["options that would not do what they say:", *problems]))


def options(arguments: Sequence[str]) -> dict[str, Any]:
    """Read options as fire does: ``--name value``, ``--name=value`` and, for True, ``--name``."""
    found: dict[str, Any] = {}
    for argument, following in zip(arguments, [*arguments[1:], "--"], strict=True):
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            text = value if equals else "True" if following.startswith("--") else following
            found[name.replace("-", "_")] = DefaultParseValue(text)
    return found


def suggestion(name: str, known: set[str]) -> str:
    """Return what may have been meant, to be added to a message."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    return f"; did you mean --{close[0]}?" if close else ""


def show_cause(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback and, last, what MONAI's own errors were raised from."""
    sys.__excepthook__(kind, error, trace)
    cause = error
    while type(cause) is RuntimeError and cause.__cause__ is not None:
        cause = cause.__cause__
    if cause is not error:
        print(f"\n{type(cause).__name__}: {cause}", file=sys.stderr)
