"""The seconds of an optimizer step in the user's own loop: loading, and what an epoch ends with."""

import math
from typing import NamedTuple

from advisor.engine.record import Conclusions, Topic
from advisor.loader.loop import LOOP, Loop, interpolate
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.step_time import (
    StepTimes,
    compare_step_s,
    estimate_step_s,
    read_throughput,
)

#: Standard error of the log of a ratio of steps in a loop that was not timed.
_UNKNOWN_LOADING = 0.3
#: And of steps between, or accumulated from, micro-batches that were.
_BETWEEN_TIMED = 0.03

#: Error of a ratio from which on it is timed again.
_KNOWN_WELL = 0.04

#: Micro-batch and accumulation.
Split = tuple[int, int]


class LoopTimes(NamedTuple):
    """What is known of the times of steps, and of the loop that they stand in."""

    #: On batches that are on the device already.
    steps: StepTimes
    #: With loading; None where it was not timed.
    loop: Loop | None
    #: Whether there is a loop that loads.
    is_loaded: bool
    #: What the user says an epoch costs besides, over its samples.
    epoch_per_sample_s: float
    #: None where it is not known: then no pass over it ends.
    dataset_size: int | None

    def estimate_s(self, micro_batch_size: int, accumulation: int = 1) -> float | None:
        """Return the seconds of a step; None beyond what was timed.

        Of an accumulated one each micro-batch costs what it does alone, the optimizer step once.
        """
        step_s = estimate_step_s(self.steps, micro_batch_size, accumulation, may_extrapolate=False)
        if step_s is None:
            return None
        sample_s = self.epoch_per_sample_s
        if self.loop is not None:
            sizes = self.loop.micro_batch_sizes
            near = min(max(micro_batch_size, sizes[0]), sizes[-1])
            factors = [
                math.log(loop_s / self.estimate_bare_s(each))
                for each, loop_s in zip(sizes, self.loop.step_s, strict=True)
            ]
            factor = math.exp(interpolate(near, sizes, factors))
            # Outside the sizes timed, what comes on top goes with the samples.
            extra_s = self.estimate_bare_s(near) * (factor - 1.0) * micro_batch_size / near
            least_s = min(1.0, factor) * self.estimate_bare_s(micro_batch_size)
            step_s = max(step_s + accumulation * extra_s, least_s)
            if self.dataset_size:
                sample_s += interpolate(near, sizes, self.loop.pass_s) / self.dataset_size
        return step_s + micro_batch_size * accumulation * sample_s

    def estimate_alone_s(self, micro_batch_size: int, accumulation: int = 1) -> float:
        """Return the seconds of a step of a trial, which loads for itself."""
        step_s = self.estimate_bare_s(micro_batch_size, accumulation)
        return step_s + micro_batch_size * accumulation * self.fetch_per_sample_s

    @property
    def fetch_per_sample_s(self) -> float:
        """Seconds in which a process takes a sample by itself."""
        return 0.0 if self.loop is None else self.loop.fetch_per_sample_s

    def estimate_bare_s(self, micro_batch_size: int, accumulation: int = 1) -> float:
        """Return the seconds of a step on batches that are there, beyond the timed sizes too."""
        step_s = estimate_step_s(self.steps, micro_batch_size, accumulation)
        assert step_s is not None
        return step_s

    def estimate_error(self, one: Split, other: Split) -> float:
        """Return the standard error of the log of one step's time over another's."""
        if one == other:
            return 0.0
        compared = compare_step_s(self.steps, one, other)
        bare = 0.0 if compared is None else compared[1]
        if self.loop is None:
            return math.hypot(bare, _UNKNOWN_LOADING if self.is_loaded else 0.0)
        seen = self.loop.compare(one[0], other[0])
        if seen is None or one[1] > 1 or other[1] > 1:
            return math.hypot(bare, seen or 0.0, _BETWEEN_TIMED)
        return seen

    def is_known(self, one: Split, other: Split) -> bool:
        """Return whether both micro-batches were timed in the loop, often enough to be compared."""
        if not self.is_loaded and self.loop is None:
            return self.estimate_error(one, other) <= _KNOWN_WELL
        seen = None if self.loop is None else self.loop.compare(one[0], other[0])
        return seen is not None and seen <= _KNOWN_WELL


def _conclude(conclusions: Conclusions) -> LoopTimes | None:
    throughput, facts = conclusions.of(THROUGHPUT), conclusions.record.workload
    if throughput is None or facts is None:
        return None
    limits, size = conclusions.record.command.limits, facts.dataset_size
    return LoopTimes(
        steps=read_throughput(throughput),
        loop=conclusions.of(LOOP),
        is_loaded=facts.has_dataset and facts.script is None and not limits.no_loader,
        epoch_per_sample_s=limits.epoch_overhead_s / size if size else 0.0,
        dataset_size=size,
    )


LOOP_TIMES = Topic("loop_times", LoopTimes, _conclude)
