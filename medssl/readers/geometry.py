"""Whether an affine places voxels in space."""

import numpy as np
from nibabel.affines import voxel_sizes


def spans_space(affine: np.ndarray) -> bool:
    """Whether an affine is finite and its axes do not lie in a plane."""
    sizes = voxel_sizes(affine)
    finite = np.isfinite(affine).all() and (sizes > 0).all()
    return bool(finite and abs(np.linalg.det(affine[:3, :3] / sizes)) >= 1e-6)


def shear(affine: np.ndarray) -> float:
    """Return how far the axes of an affine are off right angles, degrees; 0 within a thousandth of a radian."""
    axes = affine[:3, :3] / voxel_sizes(affine)
    cosine = np.abs(axes.T @ axes - np.eye(3)).max()
    return float(np.degrees(np.arcsin(min(cosine, 1.0)))) if cosine > 1e-3 else 0.0
