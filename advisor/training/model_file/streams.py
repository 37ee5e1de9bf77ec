"""Streams of samples: kept as far as they were read, and made anew where they have one pass."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import IterableDataset

from advisor.training.model_file.foreign import running


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
        return self._kept[index]


class Remade(IterableDataset[Any]):
    """A stream of one pass, such as a generator: made anew for each pass after the first."""

    def __init__(self, first: Iterator[Any], make: Callable[[], Any]) -> None:
        self._first: Iterator[Any] | None = first
        self._make = make

    def __iter__(self) -> Iterator[Any]:
        """Return the stream from its beginning."""
        first, self._first = self._first, None
        return iter(self._make()) if first is None else first
