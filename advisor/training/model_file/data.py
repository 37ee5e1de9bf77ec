"""Sources of batches: a map-style dataset, an iterable one, or the user's `make_batch`."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import default_collate

from advisor.errors import WorkloadError, note_place, shorten
from advisor.figures import MOST_SAMPLES
from advisor.training.model_file.batches import hand_out, tensors_of
from advisor.training.model_file.foreign import running
from advisor.training.model_file.kept import (
    COMPARED_SAMPLES,
    KeptSamples,
    SampleCache,
    measure_constant_bytes,
)
from advisor.training.model_file.order import random_indices
from advisor.training.out_of_memory import is_out_of_memory

#: Samples looked at to learn how they differ.
SCAN_SAMPLES = 4096
#: Samples read on after those of a batch that the collate function left empty.
_READ_ON = 32
#: Samples of an iterable dataset that are shuffled; all of them are kept in memory once asked for.
ITERABLE_SAMPLES = 4096


_ADD_COLLATE = (
    "Add collate_fn(samples) to the model file: it returns the batch of a list of samples."
)


class SyntheticBatches:
    """The user's `make_batch`: enough for memory and throughput, never for noise."""

    #: Samples there are; None where that is unknown or unbounded.
    size: int | None = None
    #: Samples that a random order is made of; None where they are all alike.
    sampling_size: int | None = None

    def __init__(self, make_batch: Callable[[int], Any]) -> None:
        self._make_batch = make_batch

    def keep_samples(self) -> None:
        """There are none to keep."""

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
        self._cache: SampleCache | None = None
        self._length = _find_length(dataset)
        if not self._length:
            raise WorkloadError(
                "the dataset is empty: make_dataset returned a dataset of length 0",
                next_step="Return the training data, or write make_batch(batch_size) instead.",
            )

    @property
    def size(self) -> int | None:
        """Samples of the dataset."""
        return self._length

    #: All of them.
    sampling_size = size

    def keep_samples(self) -> None:
        """Read each sample once from here on, where those looked at come out the same twice."""
        indices = list(itertools.islice(self.scan_order(), COMPARED_SAMPLES))
        sample_bytes = measure_constant_bytes(self.read, indices)
        if sample_bytes is not None:
            self._cache = SampleCache(self._read_anew, sample_bytes)

    def read(self, indices: Sequence[int]) -> list[Any]:
        """Return the samples, not collated."""
        return self._cache.read(indices) if self._cache else self._read_anew(indices)

    def _read_anew(self, indices: Sequence[int]) -> list[Any]:
        read_all = getattr(type(self._dataset), "__getitems__", None)
        if read_all is None:
            return [self._read_one(index) for index in indices]
        try:
            return list(read_all(self._dataset, list(indices)))
        except Exception:
            for index in indices:  # which one it is
                self._read_one(index)
            raise

    def _read_one(self, index: int) -> Any:
        try:
            return self._dataset[index]
        except Exception as error:
            what = f"sample {index} of the {self._length} of the {type(self._dataset).__name__}"
            note_place(error, what)
            raise

    def collate(self, samples: list[Any]) -> Any:
        """Return the batch of these samples, which may be collated again."""
        with running(f"collating {len(samples)} samples", _ADD_COLLATE):
            if self._collate is default_collate:  # leaves the samples as they are
                return default_collate(samples)
            return self._collate([hand_out(sample) for sample in samples])

    def scan_order(self) -> Iterator[int]:
        """Yield at most `SCAN_SAMPLES` indices, each once; any first part is spread evenly."""
        size = self._length
        stride = _find_even_stride(size)
        for step in range(min(size, SCAN_SAMPLES)):
            yield step * stride % size

    def take(self, indices: Sequence[int]) -> Any:
        """Return the collated batch of these samples, read on where that leaves it empty."""
        samples = self.read(indices)
        try:
            batch = self.collate(samples)
            if not _is_empty(batch):
                return batch
        except Exception as error:
            if is_out_of_memory(error):
                raise
            fuller = self._read_on(samples, indices[-1])
            if fuller is None:
                self._name_broken(samples, indices, error)
                raise
            return fuller
        fuller = self._read_on(samples, indices[-1])
        return batch if fuller is None else fuller

    def _read_on(self, samples: list[Any], last: int) -> Any:
        """Return the first batch of these samples and following ones that holds anything.

        A collate function may leave samples out, and small batches are then empty at times.
        """
        for index in range(last + 1, last + 1 + _READ_ON):
            samples = [*samples, *self.read([index % self._length])]
            try:
                batch = self.collate(samples)
            except Exception:  # noqa: BLE001, S112 - the error of the batch asked for is told
                continue
            if not _is_empty(batch):
                return batch
        return None

    def _name_broken(
        self, samples: list[Any], indices: Sequence[int], error: BaseException
    ) -> None:
        """Raise WorkloadError with the sample that does not collate, though others do."""
        fails = [not self.collates([sample]) for sample in samples]
        if any(fails) and not all(fails):
            self.refuse_sample(indices[fails.index(True)], error)

    def collates(self, samples: list[Any]) -> bool:
        """Return whether these samples make a batch."""
        try:
            self.collate(samples)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return False
        return True

    def refuse_sample(self, index: int, error: BaseException) -> None:
        """Raise WorkloadError: no batch can hold this sample."""
        raise WorkloadError(
            f"sample {index} of the {type(self._dataset).__name__} cannot be collated "
            f"({type(error).__name__}: {shorten(error)})",
            next_step="Mend the sample or leave it out: of the dataset, or in collate_fn(samples).",
        ) from error

    @property
    def collates_by_default(self) -> bool:
        """Whether torch's own function makes the batches, which leaves no sample out."""
        return self._collate is default_collate

    def draw(self, batch_size: int, generator: torch.Generator) -> Any:
        """Return a random batch; the dataset is used again from its start where it is too small."""
        return self.take(random_indices(self._length, batch_size, generator))


class IterableBatches(DatasetBatches):
    """An iterable dataset, read as far as asked for and kept in memory in the order it came.

    A random order is made of the first `ITERABLE_SAMPLES` samples of the stream alone.
    """

    def __init__(self, dataset: Any, collate: Callable[[list[Any]], Any] | None) -> None:
        kept = KeptSamples(iter(dataset))
        kept.grow(1)
        super().__init__(kept, collate)
        try:
            self._stated_size: int | None = min(len(dataset), MOST_SAMPLES) or None
        except Exception:  # noqa: BLE001 - a stream need not know how long it is
            self._stated_size = None

    @property
    def size(self) -> int | None:
        """The length the dataset states until the stream has ended; without one it is unknown."""
        return len(self._dataset) if self._dataset.ended else self._stated_size

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

    def draw(self, batch_size: int, generator: torch.Generator) -> Any:
        """Return what was read in random order, reading on only where that is too little."""
        self._dataset.grow(batch_size)
        return self.take(random_indices(len(self._dataset), batch_size, generator))

    def _read_on(self, samples: list[Any], last: int) -> Any:
        self._dataset.grow(last + 1 + _READ_ON)
        self._length = len(self._dataset)
        return super()._read_on(samples, last)


#: A source of batches on the CPU.
Batches = SyntheticBatches | DatasetBatches


def _find_length(dataset: Any) -> int:
    try:
        return min(len(dataset), MOST_SAMPLES)
    except Exception as error:
        raise WorkloadError(
            f"the length of the {type(dataset).__name__} of make_dataset is not known "
            f"({type(error).__name__}: {error})",
            next_step="Give it __len__, which returns how many samples it has, or __iter__ to have "
            "it read as a stream.",
        ) from error


def _is_empty(batch: Any) -> bool:
    """Return whether all samples were left out."""
    tensors = list(tensors_of(batch))
    return batch is None or (bool(tensors) and not any(tensor.numel() for tensor in tensors))


def _find_even_stride(size: int) -> int:
    """Return a stride that visits every index once and leaves no part of the dataset for last."""
    stride = max(1, round(size * (math.sqrt(5) - 1) / 2))  # the golden section spreads best
    while math.gcd(stride, size) != 1:
        stride += 1
    return stride
