import itertools

import pytest
import torch
from torch.utils.data import IterableDataset

from advisor.errors import WorkloadError
from advisor.training.model_file.data import ITERABLE_SAMPLES, SCAN_SAMPLES
from advisor.training.model_file.order import IndexStream
from advisor.training.model_file.scan import scan_samples
from advisor.training.model_file.training_data import batches_from_dataset


class Stream(IterableDataset):
    """Counts what was read of it."""

    def __init__(self, end=None):
        self.end = end
        self.read = 0

    def __iter__(self):
        for value in itertools.count() if self.end is None else range(self.end):
            self.read += 1
            yield torch.tensor(float(value))


def test_a_stream_is_read_no_further_than_asked_for():
    stream = Stream()
    batches = batches_from_dataset(stream, None)
    assert stream.read == 1
    batches.take(range(2))
    assert stream.read == 2
    drawn = batches.draw(16, torch.Generator().manual_seed(0))
    assert stream.read == 16
    assert sorted(drawn.tolist()) == list(range(16))
    assert batches.size is None


def test_an_endless_stream_is_shuffled_within_its_window():
    batches = batches_from_dataset(Stream(), None)
    assert batches.sampling_size == ITERABLE_SAMPLES
    assert batches.size is None
    batches.take(range(ITERABLE_SAMPLES + 5))
    assert batches.sampling_size == ITERABLE_SAMPLES


def test_a_stream_that_ended_is_as_long_as_what_was_read_and_used_again():
    batches = batches_from_dataset(Stream(end=10), None)
    assert batches.size is None
    drawn = batches.draw(25, torch.Generator().manual_seed(0)).tolist()
    assert len(drawn) == 25
    assert set(drawn) == set(range(10))
    assert (batches.size, batches.sampling_size) == (10, 10)
    assert batches.take([3, 13]).tolist() == [3.0, 3.0]


@pytest.mark.parametrize("dataset", [[], Stream(end=0)])
def test_an_empty_dataset_is_refused(dataset):
    with pytest.raises(WorkloadError, match="the dataset is empty"):
        batches_from_dataset(dataset, None)


def test_a_map_style_dataset_is_sampled_whole():
    batches = batches_from_dataset([1.0] * 7, None)
    assert (batches.size, batches.sampling_size) == (7, 7)


@pytest.mark.parametrize("count", [1, 3, 7, 20])
def test_every_epoch_of_an_index_stream_has_each_sample_once(count):
    stream = IndexStream(7, seed=3)
    drawn = list(itertools.chain.from_iterable(stream.next(count) for _ in range(21)))
    epochs = [drawn[start : start + 7] for start in range(0, len(drawn) - 6, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_the_order_of_an_index_stream_does_not_depend_on_the_steps():
    one, other = IndexStream(50, seed=1), IndexStream(50, seed=1)
    assert one.next(90) == other.next(30) + other.next(7) + other.next(53)


def test_the_largest_samples_are_found_in_a_dataset_and_in_a_stream():
    lengths = [3, 9, 1, 9, 5]
    samples = [torch.zeros(length) for length in lengths]
    for dataset in (samples, iter(samples)):
        scan = scan_samples(batches_from_dataset(dataset, None))
        assert (scan.largest, scan.looked_at) == ((1, 3, 4, 0, 2), 5)


def test_samples_of_one_size_have_no_largest():
    scan = scan_samples(batches_from_dataset([torch.zeros(2)] * 6, None))
    assert (scan.largest, scan.looked_at) == ((), 6)


def test_the_look_for_the_largest_ends_at_its_time_limit():
    scan = scan_samples(batches_from_dataset([torch.zeros(2)] * 6, None), limit_s=0.0)
    assert scan.looked_at == 1


def test_an_endless_stream_is_looked_at_over_its_window_alone():
    stream = Stream()
    assert (
        scan_samples(batches_from_dataset(stream, None), limit_s=60.0).looked_at == ITERABLE_SAMPLES
    )
    assert stream.read == ITERABLE_SAMPLES


@pytest.mark.parametrize("size", [1, 2, 5, 12, 1000, 4097, 50_000, 1_281_167])
def test_any_first_part_of_a_scan_is_spread_over_the_dataset(size):
    order = list(batches_from_dataset(range(size), None).scan_order())
    assert len(set(order)) == len(order) == min(size, SCAN_SAMPLES)
    for part in (16, 100, 4000):
        first = [0, *sorted(order[:part]), size]
        gaps = [after - before for before, after in itertools.pairwise(first)]
        assert max(gaps) <= max(5, 5 * size / part)
