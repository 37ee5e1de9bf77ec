"""How many gradients an iterate gets, by the iterates before it: none of them is its own."""

import math
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


class Rounds:
    """What the iterates so far say of the next one."""

    def __init__(self, path: Trajectory) -> None:
        count = max(1, len(path.points) or len(path.checkpoints))
        self._enough = min(max(_ENOUGH_NOISE_SCALES / count, _LEAST_OF_ITERATE), _MOST_OF_ITERATE)
        self._last: NoiseBatches | None = None
        self._shares: deque[float] = deque(maxlen=_RECENT)

    def note(self, found: NoiseBatches) -> None:
        """Take in an iterate."""
        self._last = found
        share = estimate_working_share(found)
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
