"""What SECURITY.md promises, looked up in the source."""

import ast
import re
from pathlib import Path

import pytest
import yaml

import medssl
from medssl.resources import resource

SOURCES = sorted(Path(medssl.__file__).parent.rglob("*.py"))
CONFIGS = sorted(resource("bundles").glob("*/configs/*.yaml"))
UNPICKLE = {"pickle", "dill", "joblib", "marshal", "shelve", "cloudpickle"}
ONLINE = {"socket", "http", "ftplib", "requests", "urllib3", "httpx", "aiohttp"}
PARTS = {"urllib.request", "torch.hub", "monai.apps", "torch.load"}  # online; the last hides its arguments when bare


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_nothing_unpickles_or_goes_online(source):
    tree = ast.parse(source.read_text(encoding="utf-8"))
    nodes = list(ast.walk(tree))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    imported |= {f"{n.module}.{alias.name}" for n in nodes if isinstance(n, ast.ImportFrom) for alias in n.names}
    listens = {"socket"} if source.parent.name == "label" and source.stem == "server" else set()
    assert not {name.split(".")[0] for name in imported} & (UNPICKLE | ONLINE - listens)
    assert not {".".join(name.split(".")[:2]) for name in imported} & PARTS
    for call in (ast.unparse(node) for node in nodes if isinstance(node, ast.Call)):
        assert not call.startswith("torch.load(") or "weights_only=True" in call
        assert "allow_pickle" not in call or "allow_pickle=False" in call
        assert not call.startswith(("torch.hub.", "monai.apps."))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_bundles_run_what_known_packages_hold(config):
    """Names without a dot are MONAI's own."""
    values = list(strings(yaml.safe_load(config.read_text(encoding="utf-8"))))
    targets = [value for key, value in values if key == "_target_" and "." in value]
    assert [name for name in targets if name.split(".")[0] not in {"medssl", "torch", "ignite", "concurrent"}] == []
    code = [value.replace(").__name__", ")") for _, value in values if value.startswith("$")]
    imports = [match for text in code for match in re.findall(r"^\$(?:from|import) (\w+)", text)]
    assert set(imports) <= {"medssl", "monai", "torch", "math"}
    # Without arguments compile() is torch's, of a module: the builtin takes three.
    unsafe = r"__|\b(eval|exec|open)\(|\bcompile\((?!\))|\b(os|sys|subprocess)\."
    assert [text for text in code if re.search(unsafe, text)] == []


def strings(value, key=None):
    """Every text in a config with the key that it stands under."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from strings(part, name)
    elif isinstance(value, list):
        for part in value:
            yield from strings(part, key)
    elif isinstance(value, str):
        yield key, value
