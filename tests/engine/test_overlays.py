from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from matplotlib.image import imread
from monai.data import MetaTensor
from torch.nn.functional import one_hot

from medssl.engine import Overlays
from medssl.engine.overlays import bright_part, fullest_slice


def test_the_slice_shown_holds_the_most_foreground():
    label = np.zeros((4, 5, 6), np.uint8)
    label[1:3, 1:3, 4] = 2
    label[0, 0, 1] = 1
    assert fullest_slice(label, axis=2) == 4


@pytest.mark.parametrize("shape", [(8, 8, 3), (8, 8, 3, 1)])
def test_the_picture_shows_worst_median_and_best_and_colours_the_classes(tmp_path, shape):
    truth = torch.zeros(8, 8, 3, dtype=torch.long)
    truth[2:6, 2:6, 1] = 1
    image = nib.Nifti1Image(np.random.default_rng(0).integers(0, 99, shape).astype(np.int16), np.eye(4))
    nib.save(image, tmp_path / "scan.nii.gz")
    overlays = Overlays(tmp_path / "pictures" / "overlays.png", "S", ["background", "ventricle"])
    for hit in (6, 2, 4, 5):
        pred = torch.zeros_like(truth)
        pred[2:hit, 2:6, 1] = 1
        maps = {"pred": one_hot(pred, 2).movedim(-1, 0), "label": one_hot(truth, 2).movedim(-1, 0)}
        scan = MetaTensor(torch.zeros(1, 8, 8, 3), meta={"filename_or_obj": str(tmp_path / "scan.nii.gz")})
        batch = [{"image": scan, "case_id": f"hit{hit}"}]
        overlays.collect(SimpleNamespace(state=SimpleNamespace(batch=batch, output=[maps])))
    assert [round(case["dice"], 2) for case in overlays.cases] == [1.0, 0.0, 0.67, 0.86]
    overlays.draw(SimpleNamespace())
    picture = imread(tmp_path / "pictures" / "overlays.png")[..., :3]
    coloured = np.ptp(picture, axis=2) > 0.1
    left, middle, right = np.split(
        coloured[: len(coloured) * 9 // 10], [picture.shape[1] // 3, picture.shape[1] * 2 // 3], 1
    )
    assert not left.any()  # the image alone
    top, _, bottom = np.array_split(right, 3)
    assert top.sum() == 0 < bottom.sum()  # the worst prediction, nothing, above; the best below
    assert middle.sum() > right.sum()
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["overlays.png"]


@pytest.mark.parametrize(("count", "names"), [(1, ["worst"]), (2, ["worst", "best"]), (4, ["worst", "median", "best"])])
def test_of_few_cases_each_is_drawn_once(count, names, tmp_path, monkeypatch):
    overlays = Overlays(tmp_path / "overlays.png", "S", ["background", "ventricle"])
    blank = np.zeros((4, 4))
    for case in range(count):
        drawn = {"image": blank, "truth": blank, "prediction": blank}
        overlays.cases.append({"name": str(case), "dice": case / 4, **drawn})
    figures = []
    monkeypatch.setattr("medssl.engine.overlays.save_figure", lambda figure, _: figures.append(figure))
    overlays.draw(SimpleNamespace())
    headings = [axes.get_title().split(":")[0] for axes in figures[0].axes[::3]]
    assert headings == names


def test_the_part_shown_spans_what_is_bright_with_a_margin_within_the_slice():
    bright = np.zeros((20, 10), dtype=bool)
    assert bright_part(bright) == (slice(0, 20), slice(0, 10))
    bright[5, 8] = bright[12, 1] = True
    assert bright_part(bright) == (slice(3, 15), slice(0, 10))
