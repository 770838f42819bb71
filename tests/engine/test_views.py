import torch

from medssl.engine import PrepareViews


def test_two_views_are_drawn_and_subjects_numbered_within_the_batch():
    drawn = []

    def view(images, subject):
        drawn.append(subject.tolist())
        return images + len(drawn)

    batch = {
        "image": torch.zeros(3, 1, 4, 4),
        "subject_id": ["zoe", "adam", "zoe"],
        "index": torch.tensor([0, 1, 2]),
        "depth": torch.tensor([9, 8, 9]),
    }
    prepared, target = PrepareViews(view)(batch, "cpu")
    assert target is None
    assert drawn == [[1, 0, 1], [1, 0, 1]]
    assert (prepared["view_1"] == 1).all()
    assert (prepared["view_2"] == 2).all()
    assert {key: prepared[key].tolist() for key in ("index", "depth", "subject")} == {
        "index": [0, 1, 2],
        "depth": [9, 8, 9],
        "subject": [1, 0, 1],
    }
