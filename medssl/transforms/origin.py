"""Where a volume came from, for error messages."""

from monai.data import MetaTensor


def origin(volume: object) -> str:
    """Return `` in FILE`` for a volume that knows its file, or nothing."""
    file = volume.meta.get("filename_or_obj") if isinstance(volume, MetaTensor) else None
    return f" in {file}" if file else ""
