"""Where along a training gradients are measured, and how many at each place."""

import itertools
import math
import random
import statistics
from collections import deque

from advisor.noise.data import NoiseBatches, Trajectory
from advisor.noise.point import estimate_working_share, get_batch_size

#: A trajectory sees this many times the noise scale, and each iterate at least once and at most
#: five times: beyond, an interval is about a factor of 2 wide (docs/method.md).
_ENOUGH_NOISE_SCALES = 30.0
_LEAST_OF_ITERATE, _MOST_OF_ITERATE = 1.0, 5.0
#: Samples of an iterate over those of a training step, so that the latter's noise is surely seen.
_LEAST_STEPS = 2.0
#: Iterates that are looked back on.
_RECENT = 8
#: Fewer groups do not carry a jackknife.
LEAST_GROUPS = 8
#: Spans of a trajectory: each is as long as all before it.
STATIONS = 6
#: Most iterates of a trajectory: then drawing them leaves even the average of SGD at the edge of
#: stability known within 10 %.
MOST_ITERATES = 64
#: Fewest of a span: two hardly show how iterates differ.
_LEAST_ITERATES = 3


class Rounds:
    """What the iterates so far say of the next one."""

    def __init__(self, path: Trajectory) -> None:
        count = max(1, len(path.points) or len(path.checkpoints))
        self._enough = min(max(_ENOUGH_NOISE_SCALES / count, _LEAST_OF_ITERATE), _MOST_OF_ITERATE)
        self._last: NoiseBatches | None = None
        self._shares: deque[float] = deque(maxlen=_RECENT)

    def note(self, found: NoiseBatches | None) -> None:
        """Take in an iterate, where it gave any moments."""
        self._last = found or self._last
        share = None if found is None else estimate_working_share(found)
        self._shares += [] if share is None else [share.value]

    def forget(self) -> None:
        """Begin with another training."""
        self._shares.clear()

    def choose(self, groups: int, micro_batch_size: int, *, most: int) -> int:
        """Return the micro-batches of each group that are worth measuring; 1 before any iterate."""
        if self._last is None:
            return 1
        batch_size = get_batch_size(self._last)
        share = statistics.fmean(self._shares) if self._shares else 1.0
        enough = 2.0 * sum(self._last.micro_batch_sizes)
        if share < 1.0:
            enough = self._enough * batch_size * share / (1.0 - share)
        wanted = max(_LEAST_STEPS * batch_size, enough) / (groups * micro_batch_size)
        return max(1, min(math.ceil(wanted), most))


def plan_edges(steps: int, iterates: int) -> tuple[int, ...]:
    """Return the ends of the spans of a run, 0 first; fewer spans for few steps or iterates."""
    count = max(1, min(STATIONS, iterates // _LEAST_ITERATES))
    return tuple(sorted({0, *(math.ceil(steps / 2**k) for k in range(count))}))


def draw_iterates(edges: tuple[int, ...], iterates: int, *, seed: int) -> tuple[int, ...]:
    """Return the steps before each iterate, ascending: one at random in each part of a span.

    A span gets iterates as the root of its length, which splits the errors of the average and of
    the trend. At equal distances they would meet one phase of an oscillation alone.
    """
    generator = random.Random(seed)  # noqa: S311 - draws steps, keeps no secret
    lengths = [end - start for start, end in itertools.pairwise(edges)]
    whole, points = sum(map(math.sqrt, lengths)), list[int]()
    for start, length in zip(edges, lengths, strict=False):
        wanted = max(_LEAST_ITERATES, round(iterates * math.sqrt(length) / whole))
        count = min(length, wanted)
        cuts = [start + length * k // count for k in range(count + 1)]
        points += [generator.randrange(*cut) for cut in itertools.pairwise(cuts)]
    return tuple(points)
