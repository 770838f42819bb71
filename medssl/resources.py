"""Where the bundles and manifests lie that come with the package."""

from collections.abc import Sequence
from pathlib import Path


def resource(name: str) -> Path:
    """Return the path of something shipped with medssl, wherever it is installed and whatever the working directory.

    Args:
        name: path below the project's top level, such as ``"bundles/pretrain"`` or ``"data_manifests/acdc.json"``.

    Raises:
        FileNotFoundError: if nothing of that name is shipped.
    """
    package = Path(__file__).resolve().parent
    # An installed wheel holds the folders inside the package, a checkout beside it.
    for root in (package, package.parent):
        if (root / name).exists():
            return root / name
    raise FileNotFoundError(
        f"medssl ships no {name!r}; it has bundles and data_manifests, looked for in {package} and {package.parent}."
    )


def bundle_configs(bundle: str, overlays: Sequence[str], base: str = "train.yaml") -> tuple[str, ...]:
    """Return the paths of a bundle's config and of overlays on it.

    Args:
        bundle: its name.
        overlays: names in its ``configs``, or paths.
        base: name of the config that they lie on.

    Raises:
        FileNotFoundError: if there is no such overlay.
    """
    folder = resource(f"bundles/{bundle}/configs")
    paths = [folder / base, *(folder / name if (folder / name).is_file() else Path(name) for name in overlays)]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(f"no overlay {path} in {folder}, nor at that path.")
    return tuple(str(path.absolute()) for path in paths)
