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
from monai.bundle import ConfigParser, ConfigWorkflow, ReferenceResolver, create_workflow, run
from monai.bundle.utils import DEFAULT_MLFLOW_SETTINGS
from tqdm import tqdm

SPELLINGS = {"true": "True", "false": "False", "null": "'$None'", "none": "'$None'"}


def guard_command_line(argv: Sequence[str] | None = None) -> None:
    """Check the options of ``python -m monai.bundle run``, and from now on repeat an error's cause as its last line.

    MONAI says nothing where an option

    - is one that no config has: it is added;
    - is None: it is dropped;
    - is ``false`` in small letters: a word, which is true;
    - is a word where the config has a number;
    - is read by nothing with these overlays. This is looked for on the command line alone: a file of arguments may
      serve several methods.

    Only ids at the top of a config are judged: below, MONAI or the constructor that is given too much complains.

    Args:
        argv: the command line; None is the process's own. Where it is another program's, this does nothing.

    Raises:
        ValueError: listing the options that would not do what they say, or what the configs take from an overlay that
            is not among them, such as a method's, or that one listed before a method is overwritten by it.
    """
    program, *arguments = sys.argv if argv is None else argv
    if Path(program).parts[-3:] != ("monai", "bundle", "__main__.py") or arguments[:1] != ["run"]:
        return
    sys.excepthook = show_cause
    given = options(arguments)
    called_with = given
    if "args_file" in given:
        called_with = {**ConfigParser.load_config_file(str(given["args_file"])), **given}
    files = config_files(called_with.get("config_file"))
    check_order(files)
    config = ConfigParser()
    config.read_config(called_with.get("config_file"))
    known = {*config.config, *DEFAULT_MLFLOW_SETTINGS["configs"]}
    config.parse()
    known.update(*(inspect.signature(call).parameters for call in (run, create_workflow, ConfigWorkflow)))
    roots = {name: re.split("#|::", name)[0] for name in called_with}
    problems = [
        f"--{name}: no config has it{unlisted(root, files)}{suggestion(root, known, config, files)}"
        for name, root in roots.items()
        if root not in known
    ]
    for name, value in given.items():
        if value is None and config.config.get(name) is not None:
            problems.append(f"--{name} None: MONAI drops it; write --{name} '$None'")
        elif name in known and isinstance(value, str) and value in SPELLINGS:
            problems.append(f"--{name} {value}: a word here; write --{name} {SPELLINGS[value]}")
        elif wanted := wanted_kind(value, config.config.get(name)):
            problems.append(f"--{name} {value}: must be {wanted}")
    starts = ["initialize", str(called_with.get("run_id", "run")), "finalize"]
    reached = reachable(config, starts)
    missing = sorted(reached - config.ref_resolver.items.keys())
    if called_with.get("run_id", "run") == "run" and not missing:  # others read less, and are given the same options
        acting = reachable(config, starts, without="receipt")  # which tells of options, and does nothing
        read = {re.split("#|::", name)[0] for name in acting} | {"receipt", "bundle_root"}  # of MONAI's own tools
        problems += [
            f"--{name}: nothing reads it with these overlays{longer(roots[name], read)}"
            for name in given
            if roots[name] in config.config and roots[name] not in read
        ]
    if problems:
        raise ValueError("\n  ".join(["options that would not do what they say:", *problems]))
    if missing:
        parts = [file.name for file in files[1:] if "method" not in top_level(file) and file.name != "small.yaml"]
        after = f" What to list before {' and '.join(parts)} is said in the first lines there." if parts else ""
        raise ValueError(
            f"no config defines {', '.join(f'@{name}{unlisted(name, files)}' for name in missing)}; list the overlay "
            f"that does after the base, such as a method's: train.yaml, sal.yaml, small.yaml.{after}"
        )


def config_files(given: Any) -> list[Path]:
    """Return the files of ``config_file``, one or several."""
    return [Path(file) for file in ([given] if isinstance(given, str) else given or [])]


def top_level(file: Path) -> set[str]:
    """Return the ids at the top of a config that it sets, or sets a part of."""
    return {re.split("#|::", name.lstrip("+"))[0] for name in ConfigParser.load_config_file(str(file))}


def check_order(files: Sequence[Path]) -> None:
    """Refuse two methods, an overlay in front of the base, and one that a method listed after it overwrites."""
    ids = [top_level(file) for file in files]
    if ids and "run" not in ids[0]:
        raise ValueError(f"{files[0].name} runs nothing by itself: list the base, such as train.yaml, before it.")
    methods = [file.name for file in files if "method" in ConfigParser.load_config_file(str(file))]
    if len(methods) > 1:
        raise ValueError(f"{' and '.join(methods)} each define a method, and what is left of the others: list one.")
    for place, file in enumerate(files):
        if "method" not in ids[place]:
            continue
        for earlier, names in zip(files[:place], ids[:place], strict=True):
            lost = sorted(names & ids[place])
            if lost and not names & {"run", "method"}:
                raise ValueError(f"{file.name} overwrites {', '.join(lost)} of {earlier.name}: list it before that.")


def unlisted(name: str, files: Sequence[Path]) -> str:
    """Return which overlays beside the base define an id, to be added to a message; nothing for none or for many."""
    beside = sorted(set(files[0].parent.glob("*.yaml")) - set(files)) if files else []
    found = [
        file.name for file in beside if name in {key.lstrip("+") for key in ConfigParser.load_config_file(str(file))}
    ]
    return f" (of {' or '.join(found)})" if 0 < len(found) <= 3 else ""


def wanted_kind(given: Any, configured: Any) -> str | None:
    """Say what an option must be where the config has a number, a list or a truth value, and another kind came."""
    if isinstance(given, str) and given.startswith(("$", "@", "%")):
        return None
    kinds = {bool: "True or False", int: "a number", float: "a number", list: "a list", tuple: "a list"}
    wanted, got = kinds.get(type(configured)), kinds.get(type(given))
    return None if wanted in (None, got) else f"{wanted}, such as {configured}"


def reachable(config: ConfigParser, wanted: Iterable[str], without: str | None = None) -> set[str]:
    """Return the ids that some ids need to be resolved, ``without`` itself, also those that no config defines."""
    items = config.ref_resolver.items
    stack, seen = [name for name in wanted if name in items], set[str]()
    while stack:
        name = stack.pop()
        if name not in seen and name != without:
            seen.add(name)
            if name in items:
                stack += ReferenceResolver.find_refs_in_config(config=items[name].config, id=name)
    return seen


def options(arguments: Sequence[str]) -> dict[str, Any]:
    """Read options as fire does: ``--name value``, ``--name=value``, ``--name`` or ``--noname``; one dash is enough.

    What follows a bare ``--`` is fire's own.
    """
    found: dict[str, Any] = {}
    own = list(arguments[: arguments.index("--")]) if "--" in arguments else list(arguments)
    is_option = re.compile(r"--?[A-Za-z_]")
    for argument, following in zip(own, [*own[1:], "--end"], strict=True):
        if is_option.match(argument):
            name, equals, value = argument.lstrip("-").partition("=")
            alone = not equals and is_option.match(following) is not None
            if alone and name.startswith("no"):
                found[name.removeprefix("no").replace("-", "_")] = False
            else:
                text = value if equals else "True" if alone else following
                found[name.replace("-", "_")] = DefaultParseValue(text)
    return found


def suggestion(name: str, known: Iterable[str], config: ConfigParser, files: Sequence[Path]) -> str:
    """Return what may have been meant, to be added to a message: a name much alike, or the only such in a config."""
    close = difflib.get_close_matches(name, sorted(known), n=1)
    if close and not unlisted(name, files):
        return f"; did you mean --{close[0]}?"
    items = [item for item in config.ref_resolver.items if not item.startswith("receipt")]  # which tells, and asks not
    within = [item.replace("::", "#") for item in items if item.split("::")[-1] == name]
    return f"; did you mean --{within[0]}?" if len(within) == 1 else ""


def longer(name: str, read: Iterable[str]) -> str:
    """Return which options that are read go on from a name, to be added to a message; nothing for none."""
    found = [f"--{other}" for other in sorted(read) if other.startswith(f"{name}_")]
    return f", but {' and '.join(found)}" if found else ""


def show_cause(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback and, last, what MONAI's own errors were raised from; of Ctrl-C that it was pressed."""
    # Open bars would be drawn once more, below the reason, as Python ends.
    for bar in list(getattr(tqdm, "_instances", ())):
        bar.close()
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("stopped by Ctrl-C.\n")
        return
    sys.__excepthook__(kind, error, trace)
    cause = reason(error)
    if cause is not error:
        sys.stderr.write(f"\n{type(cause).__name__}: {cause}\n")


def reason(error: BaseException) -> BaseException:
    """Return what MONAI's errors, which name a component or an expression, were raised from."""
    while type(error) is RuntimeError and error.__cause__ is not None:
        error = error.__cause__
    return error
