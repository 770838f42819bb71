"""Where the bundles and manifests lie that come with the package."""

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
