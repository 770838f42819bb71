import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from medssl.data import EverySlice, SeededCacheDataset
from medssl.transforms import RandSlicesd


def test_every_slice_comes_once_in_the_order_of_the_volumes():
    volumes = [torch.arange(3.0), torch.arange(10.0, 15)]
    records = [{"image": volume.view(1, -1, 1, 1).expand(-1, -1, 2, 2)} for volume in volumes]
    dataset = SeededCacheDataset(records, Compose([RandSlicesd("image")]), progress=False)
    batches = list(EverySlice(dataset, [lambda item: {"image": item["image"] * 2}], batch_size=3))
    assert [tuple(batch["image"].shape) for batch in batches] == [(3, 1, 2, 2), (3, 1, 2, 2), (2, 1, 2, 2)]
    assert torch.cat([batch["image"] for batch in batches])[:, 0, 0, 0].tolist() == [0, 2, 4, 20, 22, 24, 26, 28]
    assert not isinstance(batches[0]["image"], MetaTensor)
