"""Where batches come from: a map-style dataset, an iterable one, or the user's `make_batch`."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, default_collate

from advisor.errors import WorkloadError
from advisor.workload.batches import count_elements

#: Samples looked at to learn whether lengths vary; a dataset may be slow to read.
SCAN_SAMPLES = 4096
#: Largest samples kept by index for the worst-case batch.
LARGEST_SAMPLES = 1024
#: Samples of an iterable dataset kept in memory for noise and trials.
ITERABLE_SAMPLES = 8192


class Batches(Protocol):
    """A source of batches on the CPU."""

    @property
    def size(self) -> int | None:
        """Samples there are; None where that is unknown or unbounded."""

    def take(self, indices: Sequence[int]) -> Any:
        """Return the batch of these samples, in this order."""

    def draw(self, batch_size: int, generator: torch.Generator) -> Any:
        """Return a batch of `batch_size` samples drawn at random without replacement."""


class SyntheticBatches:
    """The user's `make_batch`: enough for memory and throughput, never for noise."""

    size: int | None = None

    def __init__(self, make_batch: Callable[[int], Any]) -> None:
        self._make_batch = make_batch

    def take(self, indices: Sequence[int]) -> Any:
        """Return a synthetic batch as large as `indices`."""
        return self._make_batch(len(indices))

    def draw(self, batch_size: int, generator: torch.Generator) -> Any:  # noqa: ARG002
        """Return a synthetic batch."""
        return self._make_batch(batch_size)


class DatasetBatches:
    """A map-style dataset and its collate function."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any] | None) -> None:
        self._dataset = dataset
        self._collate = collate or default_collate
        self.size: int | None = len(dataset)
        if not self.size:
            raise WorkloadError(
                "the dataset is empty: make_dataset returned a dataset of length 0",
                next_step="Return the training data, or write make_batch(batch_size) instead.",
            )

    def take(self, indices: Sequence[int]) -> Any:
        """Return the collated batch of these samples."""
        if hasattr(self._dataset, "__getitems__"):
            return self._collate(self._dataset.__getitems__(list(indices)))
        return self._collate([self._dataset[index] for index in indices])

    def draw(self, batch_size: int, generator: torch.Generator) -> Any:
        """Return a random batch; the dataset is used again from its start where it is too small."""
        return self.take(random_indices(len(self._dataset), batch_size, generator))


class IterableBatches(DatasetBatches):
    """The first samples of an iterable dataset, kept in memory in the order they came."""

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any] | None) -> None:
        self._samples: Iterator[Any] = iter(dataset)
        kept = _KeptSamples(self._samples)
        kept.grow(ITERABLE_SAMPLES)
        super().__init__(kept, collate)
        try:
            self.size = len(dataset)
        except TypeError:
            # The stream that ended while it was read is exactly as long as what was read.
            self.size = len(kept) if kept.ended else None

    def take(self, indices: Sequence[int]) -> Any:
        """Return the batch of these samples, reading on where they lie further ahead."""
        self._dataset.grow(max(indices) + 1)
        return super().take([index % len(self._dataset) for index in indices])


class _KeptSamples:
    """A list that grows from an iterator."""

    def __init__(self, samples: Iterator[Any]) -> None:
        self._iterator = samples
        self._kept: list[Any] = []
        self.ended = False

    def grow(self, size: int) -> None:
        missing = size - len(self._kept)
        if missing > 0 and not self.ended:
            new = list(itertools.islice(self._iterator, missing))
            self._kept += new
            self.ended = len(new) < missing

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> object:
        return self._kept[index]


def random_indices(size: int, count: int, generator: torch.Generator) -> list[int]:
    """Return `count` indices below `size` in random order; each is used once before any twice."""
    indices: list[int] = []
    while len(indices) < count:
        order: Tensor = torch.randperm(size, generator=generator)
        indices += order[: count - len(indices)].tolist()
    return indices


def is_map_style(dataset: Any) -> bool:
    """Return whether samples are read by index; every torch dataset has the method for it."""
    return hasattr(dataset, "__getitem__") and not isinstance(dataset, IterableDataset)


class IndexStream:
    """Indices of a shuffled dataset, epoch after epoch, without end.

    Args:
        size: Samples of the dataset; None for a stream, which is taken in its own order.
        seed: Fixes the order.
    """

    def __init__(self, size: int | None, *, seed: int) -> None:
        self._size = size
        self._generator = torch.Generator().manual_seed(seed)
        self._left: list[int] = []
        self._position = 0

    def next(self, count: int) -> list[int]:
        """Return the next `count` indices."""
        if self._size is None:
            self._position += count
            return list(range(self._position - count, self._position))
        while len(self._left) < count:
            self._left += random_indices(self._size, self._size, self._generator)
        taken, self._left = self._left[:count], self._left[count:]
        return taken


def batches_from_dataset(dataset: Any, collate: Callable[[list[Any]], Any] | None) -> Batches:
    """Return the source for a map-style or iterable dataset.

    Raises:
        WorkloadError: The dataset is empty, or neither map-style nor iterable.
    """
    if not is_map_style(dataset):
        if not hasattr(dataset, "__iter__"):
            raise WorkloadError(
                f"make_dataset returned a {type(dataset).__name__}, not a dataset",
                next_step="Return an object with __getitem__ and __len__, or an iterable.",
            )
        return IterableBatches(dataset, collate)
    return DatasetBatches(dataset, collate)


def find_largest_samples(dataset: Any, size: int) -> tuple[int, ...]:
    """Return indices of the largest samples, largest first; empty where all are equally large.

    Only the first `SCAN_SAMPLES` are looked at where the dataset is larger.
    """
    counts = [count_elements(dataset[index]) for index in range(min(size, SCAN_SAMPLES))]
    if len(set(counts)) < 2:
        return ()
    order = sorted(range(len(counts)), key=lambda index: (-counts[index], index))
    return tuple(order[:LARGEST_SAMPLES])
