import torch

from medssl.engine import PrepareDeformedViews, PrepareRestoration, PrepareTiles, PrepareViews


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


def test_regions_are_deformed_with_their_image_and_counted_before():
    def shift(images, regions):
        return images.roll(1, -1), None if regions is None else regions.roll(1, -1)

    batch = {"image": torch.arange(4.0).view(1, 1, 1, 4), "regions": torch.tensor([[[[0, 0, 1, 6]]]])}
    prepared, target = PrepareDeformedViews([None, shift], intensity=lambda images: images * 10)(batch, "cpu")
    assert target is None
    assert prepared["num_regions"] == 7
    assert {key: prepared[key].flatten().tolist() for key in ("view_1", "view_2", "regions_1", "regions_2")} == {
        "view_1": [0, 10, 20, 30],
        "view_2": [30, 0, 10, 20],
        "regions_1": [0, 0, 1, 6],
        "regions_2": [6, 0, 0, 1],
    }


def test_a_batch_without_regions_gives_views_alone():
    prepared, _ = PrepareDeformedViews([None, None])({"image": torch.ones(2, 1, 4, 4)}, "cpu")
    assert sorted(prepared) == ["view_1", "view_2"]


def test_deformed_slices_know_their_place():
    batch = {"image": torch.ones(2, 1, 4, 4), "index": torch.tensor([3, 0]), "depth": torch.tensor([9, 8])}
    prepared, _ = PrepareDeformedViews([None])(batch, "cpu")
    assert prepared["index"].tolist() == [3, 0]
    assert prepared["depth"].tolist() == [9, 8]


def test_a_batch_gives_a_view_for_each_deformation():
    prepared, _ = PrepareDeformedViews([None])({"image": torch.ones(2, 1, 4, 4)}, "cpu")
    assert sorted(prepared) == ["view_1"]


def test_tiles_are_cut_from_the_batch():
    images = torch.rand(2, 1, 4, 4)
    prepared, target = PrepareTiles(lambda given: given[:, None, :, :2, :2])({"image": images}, "cpu")
    assert target is None
    assert torch.equal(prepared["tiles"][:, 0], images[:, :, :2, :2])


def test_slices_and_their_numbers_come_along_with_tiles_where_they_are_asked_for():
    prepare = PrepareTiles(
        lambda given: given[:, None],
        tiles_crop=lambda images, labels: (images + 1, labels),
        crop=lambda images, labels: (images + 2, labels),
        intensity=lambda images: images * 10,
        numbers=lambda cases, index: torch.tensor([len(case) for case in cases]) + index,
    )
    batch = {"image": torch.ones(2, 1, 4, 4), "case_id": ["a", "bcd"], "index": torch.tensor([5, 6])}
    prepared, _ = prepare(batch, "cpu")
    assert (prepared["tiles"] == 20).all()
    assert (prepared["view_1"] == 30).all()
    assert prepared["sample"].tolist() == [6, 9]


def test_images_are_damaged_between_their_lowest_and_highest_value_and_brought_back():
    images = torch.tensor([[-2.0, 0.0, 2.0], [5.0, 5.0, 5.0]]).view(2, 1, 1, 3)
    seen = []

    def invert(given):
        seen.append(given)
        return 1 - given

    prepared, target = PrepareRestoration([invert])({"image": images}, "cpu")
    assert target is None
    assert seen[0][0].flatten().tolist() == [0, 0.5, 1]
    assert torch.equal(prepared["target"], seen[0])
    assert prepared["view_1"][0].flatten().tolist() == [2, 0, -2]
    assert torch.isfinite(prepared["view_1"]).all()
    mirrored, _ = PrepareRestoration([], lambda images, labels: (images.flip(-1), labels))({"image": images}, "cpu")
    assert torch.equal(mirrored["view_1"], images.flip(-1))
