"""A fine-tuned run made into a bundle that stands by itself: for MONAI's model zoo, and MONAI Label's own app."""

from __future__ import annotations

import inspect
import json
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from medssl.engine import read_receipt
from medssl.engine.case_metrics import last_case_dice
from medssl.networks import load_pretrained
from medssl.resources import bundle_configs, resource

# Of the finetune bundle's inference.yaml: what they refer to comes with them.
KEPT = [
    *("bundle_root", "dataset_dir", "output_dir", "device", "network_def", "network", "preprocessing", "dataset"),
    *("dataloader", "inferer", "postprocessing", "handlers", "evaluator", "run"),
]
REQUIRED = ("nibabel", "pytorch-ignite", "fire", "pyyaml", "tqdm")
OTHER_KINDS = ("deepedit", "deepgrow", "detection", "classification")  # MONAI Label goes by the name of the folder
IMPORT = re.compile(r"^from (medssl\.[\w.]+) import", re.M)
SCANS = "$[{'image': file} for file in sorted(glob.glob(@dataset_dir + '/*.nii*'))]"
SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"
README = """# {name}

{description}.

| | |
| --- | --- |
{table}

In this folder, with NIfTI scans in `scans` or another one, masks are written to `eval`, each on the grid of its scan:

```
python -m pip install "monai[nibabel,ignite,fire,pyyaml,tqdm]"
python -m monai.bundle run --config_file configs/inference.yaml --dataset_dir scans --output_dir eval
```

In the app that comes with MONAI Label (`pip install monailabel`), from the folder above this one:

```
monailabel apps --download --name monaibundle --output .
mkdir -p monaibundle/model
cp -r {name} monaibundle/model/
monailabel start_server --app monaibundle --studies {name}/scans --host 127.0.0.1 \
    --conf models {name} --conf zoo_source local --conf sam2 false
```

For research, not a medical device. The code in `scripts` is medssl's, Apache 2.0; whether the weights may be passed on
is a matter of the data they have learnt from. Name authors and copyright in `configs/metadata.json`.
"""


def publish(
    run: str | Path, name: str, output: str | Path = ".", overlays: Sequence[str] = (), release: str = "0.1.0"
) -> Path:
    """Make a bundle of a fine-tuned run that takes MONAI's own packages alone: not medssl, nor the run, nor its data.

    Its configs hold numbers where the run's had references to its receipt, its ``scripts`` the code of ours that it
    needs. It names no subject, and no path of the machine.

    Args:
        run: folder of the run, with ``model.pt`` and ``model.json``; or the weights themselves, such as ``best.pt``; or
            ``medssl/finetune`` of an annotated folder, for the latest run in it.
        name: of the bundle, and of its folder.
        output: folder that it is made in.
        overlays: of the finetune bundle, names or paths, that inference takes after ``inference.yaml``.
        release: version of the bundle.

    Returns:
        The bundle's folder.

    Raises:
        FileNotFoundError: if there is no such run, or overlay.
        FileExistsError: if there is something of that name already.
        ValueError: for a name or a release that is none, or weights that the network of these overlays does not take.
    """
    if not re.fullmatch(r"\w[\w-]*", name) or any(kind in name.lower() for kind in OTHER_KINDS):
        raise ValueError(
            f"name must be letters, digits, _ and -, and none that MONAI Label takes for another kind of model "
            f"({', '.join(OTHER_KINDS)}), such as liver_ct_segmentation; got {name!r}."
        )
    if not re.fullmatch(r"\d+\.\d+\.\d+", release):
        raise ValueError(f"release must be three numbers with dots between them, such as 0.1.0, got {release!r}.")
    bundle = Path(output) / name
    if bundle.exists():
        raise FileExistsError(f"{bundle} is there already; give another name or output, or move it away.")
    latest = Path(run) / "current.json"
    if latest.is_file():
        run = Path(run) / json.loads(latest.read_text(encoding="utf-8"))["run"]
    checkpoint = Path(run) / "model.pt" if Path(run).is_dir() else Path(run)
    receipt = read_receipt(checkpoint, "finetune")
    config, scripts = inference_config(checkpoint, overlays)
    facts = metadata(name, receipt, release, held_out_dice(checkpoint, receipt))
    bundle.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=bundle.parent) as part:
        made = Path(part) / name
        for folder in ("configs", "models", "docs", "scripts"):
            (made / folder).mkdir(parents=True)
        ConfigParser.export_config_file(config, str(made / "configs/inference.yaml"), fmt="yaml", sort_keys=False)
        (made / "configs/metadata.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        shutil.copy(resource("bundles/finetune/configs/logging.conf"), made / "configs")
        shutil.copyfile(checkpoint, made / "models/model.pt")
        for module in with_imports(scripts):
            copy_script(module, made / "scripts")
        (made / "scripts/__init__.py").write_text('"""Code of medssl that the configs name."""\n', encoding="utf-8")
        (made / "docs/README.md").write_text(readme(name, receipt, facts), encoding="utf-8")
        shutil.copy(resource("bundles/finetune/LICENSE"), made)
        made.rename(bundle)
    return bundle


def inference_config(checkpoint: Path, overlays: Sequence[str]) -> tuple[dict[str, Any], set[str]]:
    """Return the config of a bundle's inference, and the modules of ours that it names.

    Raises:
        ValueError: if the network of these overlays does not take the weights.
    """
    parser = ConfigParser()
    parser.read_config(list(bundle_configs("finetune", overlays, "inference.yaml")))
    parser["checkpoint"] = str(checkpoint)
    load_pretrained(parser.get_parsed_content("network_def"), checkpoint)
    parts: dict[str, Any] = {"imports": ["$import glob", "$import torch"]}
    kept = with_references(parser.config, KEPT)
    parts |= {key: parser[key] for key in parser.config if key in kept}
    parts["dataset_dir"] = "$@bundle_root + '/scans'"
    parts["dataset"] = {**parts["dataset"], "data": SCANS}
    _, *transforms = parts["preprocessing"]["transforms"]  # MONAI Label has its own ways with MONAI's loader
    load = {"_target_": "LoadImaged", "keys": "image", "reader": "NibabelReader", "ensure_channel_first": True}
    parts["preprocessing"] = {**parts["preprocessing"], "transforms": [load, *transforms]}
    weights = {"_target_": "CheckpointLoader", "load_path": "$@bundle_root + '/models/model.pt'"}
    parts["handlers"] = [{**weights, "load_dict": {"model": "@network"}}, *parts["handlers"]]
    modules = {text: module_of(text) for text in leaves(parts) if text.startswith("medssl.")}
    return {key: settled(parser, part, key, modules) for key, part in parts.items()}, set(modules.values())


def with_references(config: Mapping[str, Any], keys: Sequence[str]) -> set[str]:
    """Return keys of a config and those that they refer to, but for what comes of the receipt."""
    found: set[str] = set()
    todo = list(keys)
    while todo:
        key = todo.pop()
        if key not in found and key in config:
            found.add(key)
            todo += [
                name for text in leaves(config[key]) if "@learnt" not in text for name in re.findall(r"@(\w+)", text)
            ]
    return found


def leaves(part: Any) -> Iterator[str]:
    """Yield the texts of a part of a config."""
    if isinstance(part, Mapping | list):
        for value in part.values() if isinstance(part, Mapping) else part:
            yield from leaves(value)
    elif isinstance(part, str):
        yield part


def module_of(target: str) -> str:
    """Return the module that something of ours is written in, by the name that a config calls it."""
    package, own = target.rsplit(".", 1)
    return str(getattr(import_module(package), own).__module__)


def settled(parser: ConfigParser, part: Any, place: str, modules: Mapping[str, str]) -> Any:
    """Return a part of a config with the receipt's values for references to it, and the bundle's own scripts for ours.

    Args:
        parser: of the config.
        part: of it.
        place: id of the part.
        modules: by the names that the config calls what is ours.
    """
    if isinstance(part, Mapping):
        return {key: settled(parser, value, f"{place}#{key}", modules) for key, value in part.items()}
    if isinstance(part, list):
        return [settled(parser, value, f"{place}#{number}", modules) for number, value in enumerate(part)]
    if isinstance(part, str) and "@learnt" in part:
        return parser.get_parsed_content(place)
    if part in modules:
        return f"scripts.{basename(modules[part])}.{basename(part)}"
    return part


def basename(dotted: str) -> str:
    """Return the last of names with dots between them."""
    return dotted.rsplit(".", 1)[1]


def with_imports(modules: Iterable[str]) -> list[str]:
    """Return modules of ours and those that they import, which must differ in the last of their names."""
    found: dict[str, str] = {}
    todo = sorted(modules)
    while todo:
        module = todo.pop()
        if found.setdefault(basename(module), module) != module:
            raise ValueError(f"{module} and {found[basename(module)]} would be one script; rename one.")
        imported = re.findall(IMPORT, inspect.getsource(import_module(module)))
        todo += [other for other in imported if other not in found.values()]
    return list(found.values())


def copy_script(module: str, folder: Path) -> None:
    """Copy a module of ours to a bundle's scripts."""
    source = inspect.getsource(import_module(module))
    text = re.sub(IMPORT, lambda found: f"from scripts.{basename(found[1])} import", source)
    (folder / f"{basename(module)}.py").write_text(text, encoding="utf-8")


def held_out_dice(checkpoint: Path, receipt: Mapping[str, Any]) -> float | None:
    """Return the mean Dice of the last weights on their test fold; None where they are others, or were not tested."""
    file = checkpoint.with_name("metrics.csv")
    if receipt["selection"] != "last" or receipt["fold"] is None or not file.is_file():
        return None
    return float(last_case_dice(file)["dice"].mean())


def metadata(name: str, receipt: Mapping[str, Any], release: str, dice: float | None) -> dict[str, Any]:
    """Return the facts of a bundle, by MONAI's schema."""
    window, classes = receipt["window"], receipt["classes"]
    names = {str(number): label for number, label in enumerate(classes)}
    tensor: dict[str, Any] = {
        "type": "image",
        "spatial_shape": receipt["image_size"],
        "dtype": "float32",
        "is_patch_data": True,
    }
    image: dict[str, Any] = {"format": "magnitude", "modality": "CT" if "hu" in window else "n/a", "num_channels": 1}
    image |= {"value_range": [0, 1] if "hu" in window else [], "channel_def": {"0": "image"}}
    pred: dict[str, Any] = {
        "format": "segmentation",
        "num_channels": len(classes),
        "value_range": [],
        "channel_def": names,
    }
    return {
        "schema": SCHEMA,
        "version": release,
        "changelog": {release: "published"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").split("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {module: version(module) for module in REQUIRED},
        "name": name,
        "task": f"segmentation of {', '.join(classes[1:])}",
        "description": f"A network that segments {', '.join(classes[1:])}, fine-tuned on few labels with medssl",
        "authors": "to be named",
        "copyright": "to be named",
        "data_source": receipt["manifest"],
        "data_type": "nifti",
        "image_classes": f"single channel, {', '.join(f'{key} {value}' for key, value in window.items())}",
        "label_classes": "single channel label map",
        "pred_classes": "one channel of logits per class",
        **({} if dice is None else {"eval_metrics": {"mean_dice": round(dice, 4)}}),
        "intended_use": "research; not a medical device",
        "network_data_format": {"inputs": {"image": {**tensor, **image}}, "outputs": {"pred": {**tensor, **pred}}},
    }


def readme(name: str, receipt: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Return what a person who is given the bundle wants to know."""
    before = [made["method"] for key, made in receipt.items() if key.startswith("pretrained") and made]
    dice = facts.get("eval_metrics", {}).get("mean_dice", "not tested")
    sides = ["the file's" if side is None else f"{side:g} mm" for side in receipt["spacing"]]
    rows = {
        "labels": ", ".join(f"{number} {label}" for number, label in enumerate(receipt["classes"]) if number),
        "learnt from": f"{len(receipt['labelled'])} labelled subjects of {receipt['manifest']}",
        "for": f"{receipt['iteration']:,} steps of {receipt['batch_size']} crops",
        "pre-trained": " and ".join(before) or "no",
        "mean Dice on the subjects set aside": dice,
        "spacing (depth, height, width)": f"{' x '.join(sides)}",
        "intensities": ", ".join(f"{key} {value}" for key, value in receipt["window"].items()),
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return README.format(name=name, description=facts["description"], table=table)
