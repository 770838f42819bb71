import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader
from monai.engines import SupervisedTrainer
from monai.transforms import Compose, RandGaussianNoised

from medssl.data import SeededCacheDataset, VolumeSampler
from medssl.engine import SetEpoch


@pytest.fixture
def make_trainer():
    """A real training of a tiny network: dropout, random transforms, momentum, a schedule."""

    def make(handlers=(), max_epochs=4, num_workers=0, bad_case=None):
        torch.manual_seed(0)
        generator = torch.Generator().manual_seed(1)
        data = [{"case_id": f"case{i}", "image": torch.randn(1, 8, 8, generator=generator)} for i in range(6)]
        if bad_case is not None:
            data[bad_case]["image"][0, 0, 0] = float("nan")
        dataset = SeededCacheDataset(data, Compose([RandGaussianNoised("image", prob=1.0)]), progress=False)
        sampler = VolumeSampler(len(data), num_draws=6, seed=3)
        network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(64, 1))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max_epochs)
        trainer = SupervisedTrainer(
            device="cpu",
            max_epochs=max_epochs,
            train_data_loader=DataLoader(
                dataset, num_workers=num_workers, sampler=sampler, batch_size=2, generator=torch.Generator()
            ),
            prepare_batch=lambda batch, *_, **__: (batch["image"], None),
            network=network,
            optimizer=optimizer,
            loss_function=lambda pred, _: pred.square().mean(),
            decollate=False,
            train_handlers=[SetEpoch(sampler)],
        )
        trainer.schedule = schedule
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: schedule.step())
        for handler in handlers:
            handler.attach(trainer)
        return trainer

    return make
