import inspect
from unittest.mock import MagicMock

import pytest
from mmengine.runner import IterBasedTrainLoop
from torch.utils.data import DataLoader, Dataset, Sampler

from mmvis_plugin.engine import ResumableIterBasedTrainLoop


class RecordingDataset(Dataset):
    """Items are their indices; remembers what was asked for."""

    def __init__(self):
        self.loaded = []

    def __len__(self):
        return 100

    def __getitem__(self, index):
        self.loaded.append(index)
        return index


class Counting(Sampler):
    """Counts upwards."""

    def __init__(self):
        self.start = 0

    def __iter__(self):
        return iter(range(self.start, 100))

    def __len__(self):
        return 100


class SkippingCounting(Counting):
    def skip(self, num_samples):
        self.start = num_samples


def trained_batches(sampler, iteration, max_iters=6, **kwargs):
    """Batches that a run trains on from an iteration on, and all that were loaded for it."""
    dataset = RecordingDataset()
    runner = MagicMock(val_loop=None)
    loop = ResumableIterBasedTrainLoop(
        runner, DataLoader(dataset, batch_size=2, sampler=sampler), max_iters, **kwargs
    )
    loop._iter = iteration
    loop.run()
    batches = [call.args[0].tolist() for call in runner.model.train_step.call_args_list]
    return batches, dataset.loaded


@pytest.mark.parametrize("sampler_class", [Counting, SkippingCounting])
@pytest.mark.parametrize("iteration", [0, 4])
def test_goes_on_with_the_next_batch(sampler_class, iteration):
    batches, _ = trained_batches(sampler_class(), iteration)
    assert batches == [[2 * i, 2 * i + 1] for i in range(iteration, 6)]


@pytest.mark.skipif(
    "fast_forward_on_resume" not in inspect.signature(IterBasedTrainLoop).parameters,
    reason="this MMEngine always goes through the batches before",
)
def test_with_fast_forward_too():
    batches, _ = trained_batches(SkippingCounting(), 4, fast_forward_on_resume=True)
    assert batches == [[8, 9], [10, 11]]


def test_does_not_load_what_was_trained_on_before():
    _, loaded = trained_batches(SkippingCounting(), 4)
    assert loaded == [8, 9, 10, 11]
