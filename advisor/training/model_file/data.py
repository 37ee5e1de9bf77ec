"""Where batches come from: a map-style dataset, an iterable one, or the user's `make_batch`."""

import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset, default_collate

from advisor.errors import WorkloadError
from advisor.training.model_file.batches import count_fields, hand_out

#: Samples looked at to learn whether lengths vary.
SCAN_SAMPLES = 4096
#: Seconds that this look may take; a dataset may be slow to read.
SCAN_LIMIT_S = 3.0
#: Largest samples kept by index for the worst-case batch.
LARGEST_SAMPLES = 1024
#: Samples of an iterable dataset that are shuffled; all of them are kept in memory once asked for.
ITERABLE_SAMPLES = 4096


class SyntheticBatches:
    """The user's `make_batch`: enough for memory and throughput, never for noise.

    Attributes:
        size: Samples there are; None where that is unknown or unbounded.
        sampling_size: Samples that a random order is made of; None where they are all alike.
    """

    size: int | None = None
    sampling_size: int | None = None

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
        if not len(dataset):
            raise WorkloadError(
                "the dataset is empty: make_dataset returned a dataset of length 0",
                next_step="Return the training data, or write make_batch(batch_size) instead.",
            )

    @property
    def size(self) -> int | None:
        """Samples of the dataset."""
        return len(self._dataset)

    @property
    def sampling_size(self) -> int | None:
        """All of them."""
        return self.size

    def read(self, indices: Sequence[int]) -> list[Any]:
        """Return the samples, not collated."""
        if hasattr(self._dataset, "__getitems__"):
            return list(self._dataset.__getitems__(list(indices)))
        return [self._dataset[index] for index in indices]

    def collate(self, samples: list[Any]) -> Any:
        """Return the batch of these samples, which may be collated again."""
        return self._collate([hand_out(sample) for sample in samples])

    def scan_order(self) -> Iterator[int]:
        """Yield at most `SCAN_SAMPLES` indices, each once; any first part is spread evenly."""
        size = len(self._dataset)
        stride = _find_even_stride(size)
        for step in range(min(size, SCAN_SAMPLES)):
            yield step * stride % size

    def take(self, indices: Sequence[int]) -> Any:
        """Return the collated batch of these samples."""
        return self.collate(self.read(indices))

    def draw(self, batch_size: int, generator: torch.Generator) -> Any:
        """Return a random batch; the dataset is used again from its start where it is too small."""
        return self.take(random_indices(len(self._dataset), batch_size, generator))


class IterableBatches(DatasetBatches):
    """An iterable dataset, read as far as asked for and kept in memory in the order it came.

    A random order is made of the first `ITERABLE_SAMPLES` samples of the stream alone.
    """

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any] | None) -> None:
        kept = _KeptSamples(iter(dataset))
        kept.grow(1)
        super().__init__(kept, collate)
        try:
            self._stated_size: int | None = len(dataset)
        except TypeError:
            self._stated_size = None

    @property
    def size(self) -> int | None:
        """The length the dataset states; without one it is unknown until the stream has ended."""
        if self._stated_size is not None:
            return self._stated_size
        return len(self._dataset) if self._dataset.ended else None

    @property
    def sampling_size(self) -> int | None:
        """Samples of the window that is shuffled, all of which are read when this is asked."""
        self._dataset.grow(ITERABLE_SAMPLES)
        return min(len(self._dataset), ITERABLE_SAMPLES)

    def scan_order(self) -> Iterator[int]:
        """Yield the indices of the window in the order of the stream, reading as it goes."""
        for index in range(ITERABLE_SAMPLES):
            self._dataset.grow(index + 1)
            if index == len(self._dataset):
                return
            yield index

    def read(self, indices: Sequence[int]) -> list[Any]:
        """Return these samples, reading on where they lie further ahead."""
        self._dataset.grow(max(indices) + 1)
        return super().read([index % len(self._dataset) for index in indices])

    def draw(self, batch_size: int, generator: torch.Generator) -> Any:
        """Return what was read in random order, reading on only where that is too little."""
        self._dataset.grow(batch_size)
        return super().draw(batch_size, generator)


#: A source of batches on the CPU.
Batches = SyntheticBatches | DatasetBatches


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
        size: Samples that the order is made of; None counts upwards without end.
        seed: Fixes the order.
    """

    def __init__(self, size: int | None, *, seed: int) -> None:
        self._size = size
        self._generator = torch.Generator().manual_seed(seed)
        self._order: list[int] = []
        self._position = 0

    def next(self, count: int) -> list[int]:
        """Return the next `count` indices."""
        if self._size is None:
            self._position += count
            return list(range(self._position - count, self._position))
        while len(self._order) - self._position < count:
            epoch = random_indices(self._size, self._size, self._generator)
            self._order = self._order[self._position :] + epoch
            self._position = 0
        self._position += count
        return self._order[self._position - count : self._position]


def batches_from_dataset(
    dataset: Any, collate: Callable[[list[Any]], Any] | None
) -> DatasetBatches:
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


def find_largest_samples(
    batches: DatasetBatches, *, limit_s: float = SCAN_LIMIT_S
) -> tuple[tuple[int, ...], int]:
    """Return the largest samples, and how many could be looked at in `limit_s` seconds.

    The indices are those of the largest first; none where all are equally large.
    """
    started = time.perf_counter()
    counts: dict[int, dict[Any, int]] = {}
    for index in batches.scan_order():
        counts[index] = _count_collated(batches, batches.read([index]))
        if time.perf_counter() - started > limit_s:
            break
    totals = {index: sum(fields.values()) for index, fields in counts.items()}
    if all(fields == counts[index] for fields in counts.values()):
        return (), len(counts)
    fields = {field for each in counts.values() for field in each}
    # Fields are padded apart: the largest sample, then the one with the most of each field.
    first = {
        min(counts, key=lambda index: (-counts[index].get(field, 0), -totals[index], index))
        for field in fields
    }
    biggest = min(totals, key=lambda index: (-totals[index], index))
    order = sorted(
        counts, key=lambda index: (index != biggest, index not in first, -totals[index], index)
    )
    return tuple(order[:LARGEST_SAMPLES]), len(counts)


def _count_collated(batches: DatasetBatches, samples: list[Any]) -> dict[Any, int]:
    """Return what each field of a batch of one sample holds; of the sample where none can be made.

    What a collate function leaves out, cuts or computes is seen in its batch alone.
    """
    try:
        return count_fields(batches.collate(samples))
    except Exception:  # noqa: BLE001 - one that needs several samples, or drops broken ones
        return count_fields(samples[0])


def _find_even_stride(size: int) -> int:
    """Return a stride that visits every index once and leaves no part of the dataset for last."""
    stride = max(1, round(size * (math.sqrt(5) - 1) / 2))  # the golden section spreads best
    while math.gcd(stride, size) != 1:
        stride += 1
    return stride
