"""Seconds of a step in the user's loop, from sessions that timed several sizes in turns.

    log t(session, size) = session + size        by least squares over all rounds

What a session's machine does to all sizes alike is the session's; ratios of sizes are what is
known. Between timed sizes the time over that of the step alone is linear in the log of the size:
loading and step both go from fixed costs to proportional ones.
"""

import math
import statistics
from collections.abc import Sequence

import msgspec
import numpy as np

from advisor.engine.record import Topic
from advisor.loader.data import LOOP_TIMINGS, LoopTiming
from advisor.statistics import median

#: Relative error that no round shows, as of sizes that share a cache differently elsewhere.
_LEAST_ERROR = 0.02


class Loop(msgspec.Struct, frozen=True, kw_only=True):
    """What was timed of the user's loop."""

    #: In order.
    micro_batch_sizes: tuple[int, ...]
    #: Of a step and of getting its batch, at each.
    step_s: tuple[float, ...]
    #: What a pass over the dataset costs beside its batches, at each.
    pass_s: tuple[float, ...]
    #: What a training that loads for itself alone spends on a sample.
    fetch_per_sample_s: float
    #: Of each session, by size, the logs of the seconds.
    rounds: tuple[dict[int, tuple[float, ...]], ...]

    def compare(self, size: int, other: int) -> float | None:
        """Return the standard error of log t(size) − log t(other); None where not timed together.

        Rounds are paired, so that what slows both down cancels.
        """
        if size == other:
            return 0.0
        differences = [
            one - two
            for each in self.rounds
            if size in each and other in each
            for one, two in zip(each[size], each[other], strict=True)
        ]
        if len(differences) < 2:
            return None
        error = statistics.stdev(differences) / math.sqrt(len(differences))
        return math.hypot(error, _LEAST_ERROR)


def interpolate(size: float, sizes: Sequence[int], values: Sequence[float]) -> float:
    """Return the value at this size, linear in its log; that of the nearest end outside."""
    return float(np.interp(math.log(size), np.log(sizes), values))


def conclude_loop(timings: Sequence[LoopTiming]) -> Loop | None:
    """Return what the sessions say together; None where no step was timed."""
    timings = [timing for timing in timings if any(timing.step_s)]
    cells = [
        (number, size, tuple(map(math.log, step_s)), pass_s)
        for number, timing in enumerate(timings)
        for size, step_s, pass_s in zip(
            timing.micro_batch_sizes, timing.step_s, timing.pass_s, strict=True
        )
        if step_s
    ]
    if not cells:
        return None
    sizes = sorted({size for _, size, _, _ in cells})
    owners, places = [cell[0] for cell in cells], [sizes.index(cell[1]) for cell in cells]
    rows = np.concatenate([np.eye(len(sizes))[places], np.eye(len(timings))[owners]], axis=1)
    weights = np.sqrt([len(cell[2]) for cell in cells])
    levels = np.array([median(cell[2]) for cell in cells])
    found = np.linalg.lstsq(rows * weights[:, None], levels * weights)[0]
    fetches = [timing.fetch_s / timing.micro_batch_sizes[0] for timing in timings]
    return Loop(
        micro_batch_sizes=tuple(sizes),
        step_s=tuple(np.exp(found[: len(sizes)] + found[len(sizes) :].mean()).tolist()),
        pass_s=tuple(median([cell[3] for cell in cells if cell[1] == size]) for size in sizes),
        fetch_per_sample_s=median(fetches),
        rounds=tuple(
            {size: logs for number, size, logs, _ in cells if number == each}
            for each in range(len(timings))
        ),
    )


LOOP = Topic("loop", Loop, lambda conclusions: conclude_loop(conclusions.record.all(LOOP_TIMINGS)))
