"""Samples kept for whoever reads them again: of a stream, or the same each time they are read."""

import itertools
import pickle
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from advisor.training.model_file.batches import map_tensors
from advisor.training.model_file.foreign import running

#: Bytes that are kept at most.
_MOST_BYTES = 256 << 20


def count_keepable(read: Callable[[Sequence[int]], list[Any]], indices: Iterable[int]) -> int:
    """Return how many such samples may be kept; 0 where one read twice differs, as if augmented."""
    sizes = [1]
    for index in indices:
        try:
            one, other = (pickle.dumps(map_tensors(read([index]), _to_bytes)) for _ in range(2))
        except Exception:  # noqa: BLE001 - what cannot be compared is not kept
            return 0
        if one != other:
            return 0
        sizes.append(len(one))
    return _MOST_BYTES // max(sizes)


def _to_bytes(tensor: Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    """Return what a tensor holds: pickled itself, no two would be the same."""
    return tensor.dtype, tensor.shape, tensor.reshape(-1).view(torch.uint8).numpy().tobytes()


class KeptSamples:
    """A list that grows from an iterator."""

    def __init__(self, samples: Iterator[Any]) -> None:
        self._iterator = samples
        self._kept: list[Any] = []
        self.ended = False

    def grow(self, size: int) -> None:
        """Read on until it holds so many samples, or the stream has ended."""
        missing = size - len(self._kept)
        if missing > 0 and not self.ended:
            with running(f"sample {len(self._kept)} or later of the stream of make_dataset"):
                new = list(itertools.islice(self._iterator, missing))
            self._kept += new
            self.ended = len(new) < missing

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, index: int) -> object:
        """Return a sample, read on where it lies further ahead; past the end it begins anew."""
        self.grow(index + 1)
        return self._kept[index % len(self._kept)]


class Remade(IterableDataset[Any]):
    """A stream of one pass, such as a generator: made anew for each pass after the first."""

    def __init__(self, make: Callable[[], Any], first: Iterator[Any] | None = None) -> None:
        self._make, self._first = make, first

    def __iter__(self) -> Iterator[Any]:
        """Return the stream from its beginning."""
        first, self._first = self._first, None
        return iter(self._make()) if first is None else first
