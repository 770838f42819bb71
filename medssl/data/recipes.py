"""Manifests of data sets as they lie on the disk: which files are what, and what their labels are called."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import yaml
from tqdm.auto import tqdm

from medssl.data.label_maps import Organs, join_labels
from medssl.data.manifest_checks import SECTIONS, Record
from medssl.data.scan_folder import ORGAN, fields_of, natural, scan_folder
from medssl.readers import read_header
from medssl.resources import resource

logger = logging.getLogger(__name__)

OF_FILES = ("layout", "organs", "same_person", "based_on")  # what a recipe says of them; all else is the manifest's
Recipe = Mapping[str, Any]


def from_recipe(
    recipe: Recipe, root: str | Path, executor: Executor, folder: str | Path | None = None
) -> dict[str, Any]:
    """Return the keys of a manifest, and its records as they are found in a folder.

    Args:
        recipe: keys of a manifest, all of which may be missing, and

            - ``layout``: by section, the patterns ``image`` and ``label`` of
              :py:func:`medssl.data.scan_folder.scan_folder`, or a list of these. With ``frames: true`` every volume of
              a file is a record, but those that are there as files of their own. What is not there is passed over.
            - ``organs``: by id, what the files call a label, see :py:func:`medssl.data.label_maps.join_labels`. Not
              needed where label maps hold the ids of the manifest, nor where organs are called as ``labels`` says.
            - ``same_person``: groups of cases that are one person's.

            Cases in ``known_bad`` of ``expected`` are left out, and ``duplicates`` of which not all are there.
        root: folder of the data set.
        executor: joins labels.
        folder: of the manifest, beside which joined labels are written; default: the root.

    Raises:
        FileNotFoundError: if nothing of it is in the folder.
        ValueError: as of the patterns and the labels; for contours without ``labels``, and slices without ``organs``.
    """
    facts: dict[str, Any] = {"training": [], **{key: recipe[key] for key in recipe if key not in OF_FILES}}
    for section, records in find_records(recipe, Path(root)).items():
        facts[section] = [*facts.get(section, []), *records]
    subjects = {record["subject_id"] for section in SECTIONS for record in facts.get(section, [])}
    facts["duplicates"] = [group for group in facts.get("duplicates", []) if subjects.issuperset(group)]
    labelled = [record for section in SECTIONS for record in facts.get(section, []) if "label" in record]
    if "labels" not in facts and any(isinstance(record["label"], Mapping) for record in labelled):
        organs = sorted({organ for record in labelled for organ in record["label"]}, key=natural)
        facts["labels"] = {str(number): name for number, name in enumerate(["background", *organs])}
    if labelled and ("organs" in recipe or not ready(recipe)):
        joined = iter(join_labels(labelled, root, organs_of({**recipe, **facts}), executor, folder))
        for section in SECTIONS:
            facts[section] = [next(joined) if "label" in record else record for record in facts.get(section, [])]
        set_aside(facts)
        if Path(folder or root).resolve() != Path(root).resolve():
            facts["labels_beside_manifest"] = True
    return facts


def set_aside(facts: dict[str, Any]) -> None:
    """Move the records in which nothing was contoured to those without labels."""
    for section in ("training", "validation"):
        nothing = [record for record in facts.get(section, []) if record.get("known_classes") == []]
        if nothing:
            names = ", ".join(record["case_id"] for record in nothing)
            logger.warning("labels: none in %s, which go to unlabeled", names)
            facts[section] = [record for record in facts[section] if record not in nothing]
            bare = [{key: record[key] for key in record if key not in ("label", "known_classes")} for record in nothing]
            facts["unlabeled"] = [*facts.get("unlabeled", []), *bare]


def read_recipe(name: str | Path) -> dict[str, Any]:
    """Return a recipe, with the keys of that, or of the manifest, which its ``based_on`` names.

    Args:
        name: of a recipe that comes with medssl, such as ``"btcv"``, or a YAML file.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it cannot be read, or has no layout.
    """
    recipe = read_keys(name)
    if "layout" not in recipe:
        raise ValueError(f"{name} must have a layout, the patterns of images and labels, it has {', '.join(recipe)}.")
    return recipe


def read_keys(name: str | Path) -> dict[str, Any]:
    """Return the keys of a recipe, or of a manifest, with those that it is based on."""
    file = Path(name)
    if not file.is_file():
        recipes = resource("data_manifests/recipes")
        file = recipes / f"{name}.yaml"
        if not file.is_file():
            shipped = ", ".join(sorted(path.stem for path in recipes.glob("*.yaml")))
            raise FileNotFoundError(f"no recipe {str(name)!r}; medssl ships {shipped}, or give a YAML file.")
    if file.suffix == ".json":
        return json.loads(file.read_text(encoding="utf-8"))
    try:
        recipe: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is no YAML: {' '.join(str(error).split())}.") from error
    if not isinstance(recipe, dict):
        raise ValueError(f"{file} must hold the keys of a manifest, it holds {recipe!r:.80}.")
    if "based_on" in recipe:
        recipe = read_keys(file.parent / recipe["based_on"]) | recipe
    if "organs" in recipe:
        recipe["organs"] = {int(number): names for number, names in recipe["organs"].items()}
    numbered = {key: recipe[key] for key in ("modality", "labels", "canonical", "label_policy") if key in recipe}
    return recipe | {key: {str(number): name for number, name in names.items()} for key, names in numbered.items()}


def choose(recipe: Recipe, names: Sequence[str] | None) -> dict[str, Any]:
    """Return a recipe with some of its labels, numbered anew.

    Args:
        recipe: one with ``labels``.
        names: of the labels, in order, the background first; None takes the recipe as it is.

    Raises:
        ValueError: for names that it does not have, the background among them.
    """
    if names is None:
        return dict(recipe)
    numbers = {name: number for number, name in recipe["labels"].items()}
    if unknown := [name for name in names if name not in numbers]:
        raise ValueError(f"labels must be among {', '.join(numbers)}, got {', '.join(unknown)}.")
    organs = organs_of(recipe)
    chosen = {str(number): name for number, name in enumerate(names)}
    return {
        **{key: value for key, value in recipe.items() if key not in ("canonical", "label_policy")},
        "labels": chosen,
        "organs": {int(number): organs[int(numbers[name])] for number, name in chosen.items() if number != "0"},
    }


def ready(recipe: Recipe) -> bool:
    """Whether labels are label maps, as they are."""
    return not by_name(recipe) and not any(label.endswith("/") for label in label_patterns(recipe))


def by_name(recipe: Recipe) -> bool:
    """Whether labels are told apart by names, of files or of contours, rather than by ids."""
    return any(ORGAN in fields_of(label) or label.endswith(".dcm") for label in label_patterns(recipe))


def label_patterns(recipe: Recipe) -> list[str]:
    """Return the patterns of all labels."""
    return [patterns["label"] for _, patterns in parts(recipe) if patterns.get("label")]


def organs_of(recipe: Recipe) -> Organs:
    """Return by what a recipe knows each of its labels."""
    if "organs" in recipe:
        organs: Organs = recipe["organs"]
        if wrong := {str(number) for number in organs} ^ (recipe["labels"].keys() - {"0"}):
            raise ValueError(f"organs must name the ids of labels but 0, they differ in {', '.join(sorted(wrong))}.")
        return organs
    if any(label.endswith("/") for label in label_patterns(recipe)):
        raise ValueError(
            "labels of slices have grey values: a recipe with organs, a YAML file, must say which are which."
        )
    if "labels" not in recipe:
        raise ValueError("say which regions are labels: --labels background ..., as the files call them.")
    names = by_name(recipe)
    return {int(number): [name if names else int(number)] for number, name in recipe["labels"].items() if number != "0"}


def find_records(recipe: Recipe, root: Path) -> dict[str, list[Record]]:
    """Return the records of all sections that are there."""
    persons = {case: group[0] for group in recipe.get("same_person", []) for case in group}
    bad = set(recipe.get("expected", {}).get("known_bad", []))
    own_files = {record["case_id"] for section in SECTIONS for record in recipe.get(section, [])}
    found: dict[str, list[Record]] = {}
    absent: list[FileNotFoundError] = []
    for section, patterns in parts(recipe):
        try:
            records = scan_folder(root, patterns["image"], patterns.get("label"))
        except FileNotFoundError as error:
            absent.append(error)
            continue
        unlabelled = records["unlabeled"]
        if patterns.get("frames", False):
            unlabelled = [frame for frame in frames(unlabelled, root) if frame["case_id"] not in own_files]
        for name, listed in ((section, records["training"]), (section_of_images(section), unlabelled)):
            for record in listed:
                person = persons.get(record["case_id"], record["subject_id"])
                if record["case_id"] in bad:
                    logger.warning("%s is known to be bad: left out", record["case_id"])
                else:
                    found.setdefault(name, []).append({**record, "subject_id": person})
    if not found:
        raise absent[0]
    for missing in absent:
        logger.info("not there: %s", missing)
    return found


def parts(recipe: Recipe) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the sections of a layout with their patterns."""
    for section, patterns in recipe["layout"].items():
        yield from ((section, part) for part in (patterns if isinstance(patterns, list) else [patterns]))


def section_of_images(section: str) -> str:
    """Return where a section's records without labels belong."""
    return "test" if section == "test" else "unlabeled"


def frames(records: Sequence[Record], root: Path) -> Iterator[Record]:
    """Yield a record for every volume of files that hold several."""
    for record in tqdm(records, "counting frames", unit="file"):
        shape = read_header(root / record["image"]).shape
        for number in range(1, (shape[3] if len(shape) > 3 else 1) + 1):
            yield {**record, "case_id": f"{record['case_id']}_frame{number:02d}", "frame": number}
