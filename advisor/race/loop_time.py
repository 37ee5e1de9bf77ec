"""The seconds of an optimizer step in the user's own loop: loading, and what an epoch ends with."""

import math
from typing import NamedTuple

from advisor.engine.conclusions import Conclusions, Topic
from advisor.loader.data import LoaderConclusion
from advisor.loader.plan import LOADER, estimate_loop_step_s
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.step_time import (
    StepTimes,
    compare_step_s,
    estimate_step_s,
    read_throughput,
)

#: Standard error of the log of a ratio of steps whose loading was not timed, though it costs time.
_UNKNOWN_LOADING = 0.3


class LoopTimes(NamedTuple):
    """What is known of the times of steps, and of loading; `loader` is None where it is unknown."""

    steps: StepTimes
    loader: LoaderConclusion | None
    has_loader: bool

    def estimate_s(self, micro_batch_size: int, accumulation: int = 1) -> float | None:
        """Return the seconds of a step; None beyond what was timed."""
        step_s = estimate_step_s(self.steps, micro_batch_size, accumulation, may_extrapolate=False)
        if step_s is None:
            return None
        size = micro_batch_size * accumulation
        return estimate_loop_step_s(step_s, size, micro_batch_size, self.loader)

    def estimate_error(self, one: tuple[int, int], other: tuple[int, int]) -> float:
        """Return the standard error of the log of one step's time over another's."""
        compared = compare_step_s(self.steps, one, other)
        if compared is None or one == other:
            return 0.0
        unknown = _UNKNOWN_LOADING if self.loader is None and self.has_loader else 0.0
        known = 0.0 if self.loader is None else self.loader.log_error
        return math.hypot(compared[1], unknown, known)


def _conclude(conclusions: Conclusions) -> LoopTimes | None:
    throughput, facts = conclusions.of(THROUGHPUT), conclusions.record.workload
    if throughput is None or facts is None:
        return None
    times = read_throughput(throughput)
    return LoopTimes(times, conclusions.of(LOADER), has_loader=facts.has_dataset)


LOOP_TIMES = Topic("loop_times", LoopTimes, _conclude)
