import nibabel as nib
import numpy as np
import pytest

from medssl.data.phantoms import draw_heart


@pytest.fixture(scope="module")
def hearts():
    return {(subject, phase): draw_heart(0, subject, phase) for subject in range(4) for phase in ("ed", "es")}


def test_every_volume_holds_every_class(hearts):
    for image, label, _ in hearts.values():
        assert image.shape == label.shape
        assert set(np.unique(label)) == {0, 1, 2, 3}


def test_the_cavities_shrink_at_end_systole(hearts):
    for subject in range(4):
        diastole, systole = (hearts[subject, phase][1] for phase in ("ed", "es"))
        assert diastole.shape == systole.shape
        assert (systole == 3).sum() < 0.75 * (diastole == 3).sum()


def test_the_place_of_a_slice_shows_in_its_anatomy(hearts):
    """The heart tapers: what a positional loss is to learn."""
    for _, label, _ in hearts.values():
        area = (label > 0).sum(axis=(0, 1))
        assert area[0] > 1.5 * area[-1]


def test_seed_and_number_decide_the_heart(hearts):
    again = draw_heart(0, 2, "ed")
    assert all(np.array_equal(a, b) for a, b in zip(again, hearts[2, "ed"], strict=True))
    assert not np.array_equal(draw_heart(1, 2, "ed")[0][..., 0], again[0][..., 0])


def test_the_geometry_is_a_scanners(hearts):
    for _, _, affine in hearts.values():
        assert nib.aff2axcodes(affine) == ("L", "P", "S")


def test_no_threshold_segments_the_ventricle(hearts):
    best = 0.0
    for image, label, _ in hearts.values():
        truth = label == 3
        for low in np.quantile(image, np.linspace(0.5, 0.99, 25)):
            found = image >= low
            best = max(best, 2 * (found & truth).sum() / (found.sum() + truth.sum()))
    assert best < 0.7
