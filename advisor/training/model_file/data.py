"""Sources of batches: a map-style dataset, an iterable one, or the user's `make_batch`."""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

import torch
from torch.utils.data import default_collate

from advisor.errors import SampleError, WorkloadError, note_place, shorten
from advisor.figures import MOST_SAMPLES
from advisor.training.device_failure import is_out_of_memory
from advisor.training.model_file.batches import hand_out, tensors_of
from advisor.training.model_file.foreign import running
from advisor.training.model_file.kept import KeptSamples, count_keepable
from advisor.training.model_file.order import random_indices

#: Samples looked at to learn how they differ.
SCAN_SAMPLES = 4096
#: Samples that are read twice to see whether they come out the same.
_COMPARED_SAMPLES = 16
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
        self.collates_by_default = self._collate is default_collate  # which leaves no sample out
        self._most_kept = 0
        self._kept: dict[int, Any] = {}
        try:
            self._length = min(len(dataset), MOST_SAMPLES)
        except Exception as error:
            raise WorkloadError(
                f"the length of the {type(dataset).__name__} of make_dataset is not known "
                f"({type(error).__name__}: {error})",
                next_step="Give it __len__, which returns how many samples it has, or __iter__ to "
                "have it read as a stream.",
            ) from error
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
        indices = itertools.islice(self.scan_order(), _COMPARED_SAMPLES)
        self._most_kept = count_keepable(self.read, indices)

    def read(self, indices: Sequence[int]) -> list[Any]:
        """Return the samples, not collated; whoever takes one must leave it as it is."""
        if not self._most_kept:
            return self._read_anew(indices)
        missing = [index for index in dict.fromkeys(indices) if index not in self._kept]
        fresh = dict(zip(missing, self._read_anew(missing) if missing else (), strict=True))
        samples = [(fresh if index in fresh else self._kept)[index] for index in indices]
        self._kept.update(itertools.islice(fresh.items(), self._most_kept - len(self._kept)))
        return samples

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
            if self.collates_by_default:  # leaves the samples as they are
                return default_collate(samples)
            return self._collate([hand_out(sample) for sample in samples])

    def scan_order(self) -> Iterator[int]:
        """Yield at most `SCAN_SAMPLES` indices, each once; any first part is spread evenly."""
        size = self._length
        stride = _find_even_stride(size)
        for step in range(min(size, SCAN_SAMPLES)):
            yield step * stride % size

    def take(self, indices: Sequence[int]) -> Any:
        """Return the collated batch of these samples; SampleError where one does not collate.

        A collate function may leave samples out: where none are left, more are read.
        """
        asked = samples = self.read(indices)
        batch, failed = self._try(asked)
        fuller, last = batch, indices[-1]
        while _is_empty(fuller) and len(samples) < len(asked) + _READ_ON:
            last += 1
            samples = [*samples, *self.read([last % self._length])]
            fuller, _ = self._try(samples)
        if not _is_empty(fuller) or failed is None:
            return batch if _is_empty(fuller) else fuller
        fails = [self._try([sample])[1] is not None for sample in asked]
        if any(fails) and not all(fails):
            self.refuse_sample(indices[fails.index(True)], failed, "cannot be collated")
        raise failed

    def _try(self, samples: list[Any]) -> tuple[Any, Exception | None]:
        """Return the batch of these samples, and what failed in its place."""
        try:
            return self.collate(samples), None
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return None, error

    def refuse_sample(self, index: int, error: BaseException, why: str) -> NoReturn:
        """Raise SampleError: no batch can hold this sample."""
        raise SampleError(
            f"sample {index} of the {type(self._dataset).__name__} {why} "
            f"({type(error).__name__}: {shorten(error)})",
            next_step="Mend the sample or leave it out: of the dataset, or in collate_fn(samples).",
        ) from error

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
        self._length = MOST_SAMPLES  # what was kept begins anew past its end
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


#: A source of batches on the CPU.
Batches = SyntheticBatches | DatasetBatches


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
