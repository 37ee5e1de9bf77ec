"""Random generators, and orders of a dataset of any length: each sample once before any twice."""

import itertools
import random
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Sampler

#: Larger datasets are not permuted: an order is drawn as far as it is used.
MOST_PERMUTED = 1 << 20
_DRAWN_AT_ONCE = 4096


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators."""
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - the one that users draw from
    torch.manual_seed(seed)


def shuffle(size: int, generator: torch.Generator) -> Iterator[int]:
    """Yield every index below `size` once, in random order."""
    if size <= MOST_PERMUTED:
        order: Tensor = torch.randperm(size, generator=generator, device="cpu")
        for start in range(0, size, _DRAWN_AT_ONCE):
            yield from order[start : start + _DRAWN_AT_ONCE].tolist()
        return
    seen: set[int] = set()
    while len(seen) < size:
        drawn = torch.randint(size, (_DRAWN_AT_ONCE,), generator=generator, device="cpu").tolist()
        fresh = [index for index in dict.fromkeys(drawn) if index not in seen]
        seen.update(fresh)
        yield from fresh


def shuffle_endlessly(size: int, generator: torch.Generator) -> Iterator[int]:
    """Yield epoch after epoch."""
    while True:
        yield from shuffle(size, generator)


class Shuffled(Sampler[int]):
    """A sampler that shuffles as torch's does, a dataset of any length."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __iter__(self) -> Iterator[int]:
        """Yield each index once, in an order of torch's global seed."""
        seed = int(torch.empty((), dtype=torch.int64, device="cpu").random_().item())
        return shuffle(self._size, torch.Generator("cpu").manual_seed(seed))

    def __len__(self) -> int:
        return self._size


def random_indices(size: int, count: int, generator: torch.Generator) -> list[int]:
    """Return `count` indices below `size` in random order; each is used once before any twice."""
    return list(itertools.islice(shuffle_endlessly(size, generator), count))


class IndexStream:
    """Indices of a shuffled dataset, epoch after epoch; without a size it counts upwards."""

    def __init__(self, size: int | None, *, seed: int) -> None:
        generator = torch.Generator("cpu").manual_seed(seed)
        self._source = itertools.count() if size is None else shuffle_endlessly(size, generator)

    def next(self, count: int) -> list[int]:
        """Return the next `count` indices."""
        return list(itertools.islice(self._source, count))
