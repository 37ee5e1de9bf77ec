"""A batch that changes along a run, as a table: the notations of Megatron-LM and OLMo-core."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import msgspec

_SUFFIXES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_NUMBER = re.compile(r"([0-9][0-9_]*(?:\.[0-9]+)?(?:e\+?[0-9]+)?)([KMBT]?)", re.IGNORECASE)


class BatchSizeTable(msgspec.Struct, frozen=True):
    """From so many samples on, this batch; both over all ranks.

    Raises:
        ValueError: The table does not begin at 0, or is no table.
    """

    entries: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        starts = [start for start, _ in self.entries]
        if not starts or starts[0] != 0:
            raise ValueError("a table of batch sizes begins at 0, as in 0:64 2e6:128")
        if any(later <= start for start, later in pairwise(starts)):
            raise ValueError(f"the entries of a table of batch sizes go upwards, not as in {self}")
        if any(size < 1 for _, size in self.entries):
            raise ValueError(f"a batch has at least one sample, not as in {self}")

    def __str__(self) -> str:
        return self.write()

    @property
    def first(self) -> int:
        """The batch that the run begins with."""
        return self.entries[0][1]

    def find(self, samples: int) -> int:
        """Return the batch of a step that begins after so many samples."""
        return next(size for start, size in reversed(self.entries) if start <= samples)

    def list_from(self, samples: int) -> Iterator[int]:
        """Yield the batch after so many samples and those that follow."""
        yield self.find(samples)
        yield from (size for start, size in self.entries if start > samples)

    @classmethod
    def parse(cls, text: str, *, tokens_per_sample: int = 1) -> Self:
        """Read Megatron's `--step-batch-size-schedule`: `0:64 2e6:128` or `0:64 2M:128`.

        What stands before a colon is in samples, or in tokens of sequences of so many; batches are
        in samples.
        """
        if tokens_per_sample < 1:
            raise ValueError(f"a sequence has a token at least, not {tokens_per_sample}")
        pairs = [entry.partition(":") for entry in text.replace(",", " ").split()]
        entries = ((_read(start), _read(size)) for start, _, size in pairs)
        return cls(tuple((start // tokens_per_sample, size) for start, size in entries))

    def write(self, *, tokens_per_sample: int = 1) -> str:
        """Return Megatron's notation, in samples or in tokens."""
        return " ".join(
            f"{_shorten(start * tokens_per_sample)}:{size}" for start, size in self.entries
        )

    @classmethod
    def from_megatron_ramp(cls, start: int, increment: int, samples: int, *, final: int) -> Self:
        """Read Megatron's `--rampup-batch-size`; `final` is its `--global-batch-size`."""
        rises, rest = divmod(final - start, increment)
        if rest or rises < 0:
            raise ValueError(f"increments of {increment} do not lead from {start} to {final}")
        places = (-(-samples * rise // max(rises, 1)) for rise in range(rises + 1))
        return cls(tuple((at, start + rise * increment) for rise, at in enumerate(places)))

    @classmethod
    def from_olmo_core(cls, settings: Mapping[str, Any], *, tokens_per_sample: int) -> Self:
        """Read OLMo-core's settings of a BatchSizeSchedulerCallback, with batches in tokens."""
        sizes: Sequence[int] = settings["batch_sizes"]
        places = settings["schedule"]
        if {place["unit"] for place in places} - {"tokens"} or len(sizes) != len(places):
            raise ValueError("a schedule of OLMo-core is read where each batch has its tokens")
        if any(size % tokens_per_sample for size in sizes):
            raise ValueError(f"a batch is no whole number of sequences of {tokens_per_sample}")
        pairs = zip(places, sizes, strict=True)
        return cls(
            tuple((at["value"] // tokens_per_sample, n // tokens_per_sample) for at, n in pairs)
        )

    def write_olmo_core(self, *, tokens_per_sample: int) -> dict[str, Any]:
        """Return the settings of OLMo-core's BatchSizeSchedulerCallback."""
        return {
            "batch_sizes": [size * tokens_per_sample for _, size in self.entries],
            "schedule": [
                {"value": start * tokens_per_sample, "unit": "tokens"} for start, _ in self.entries
            ],
        }


def _read(text: str) -> int:
    found = _NUMBER.fullmatch(text.strip())
    number = math.inf if found is None else float(found[1].replace("_", ""))
    if found is None or math.isinf(number):
        raise ValueError(f"{text!r} is no number of samples: a table is written as 0:64 2e6:128")
    return round(number * _SUFFIXES[found[2].upper()])


def _shorten(number: int) -> str:
    """Return the number with the largest suffix that keeps it whole."""
    suffix = max(_SUFFIXES, key=lambda each: _SUFFIXES[each] * (number % _SUFFIXES[each] == 0))
    return f"{number // _SUFFIXES[suffix]}{suffix}" if number else "0"
