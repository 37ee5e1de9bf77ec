"""How often a step is measured, so that it takes no more than a hundredth of the training."""

import math
import statistics
from collections import deque

#: Share of a step's time that measuring may take, averaged over the steps.
MOST_COST_FRACTION = 0.01
#: Of that, what is planned with: costs are known by a few measured steps alone, and without what
#: the next step loses to emptied caches, half as much again on small models (`monitor_cost.json`).
_PLANNED_FRACTION = 0.4
#: Steps before the first measured one: the first of a training take longer than others.
_FIRST_STEPS = 8
#: Measured steps that are looked back on.
_RECENT = 9
#: Steps between two that are measured where a step's time is not known yet.
_UNKNOWN = 100


class Interval:
    """Every how manieth step is measured: as the user wants, or by what measuring costs."""

    def __init__(self, every: int | None = None) -> None:
        if every is not None and every < 1:
            raise ValueError(f"of {every} steps none can be measured: every is 1 at least")
        self._given = every
        self._costs_s: deque[float] = deque(maxlen=_RECENT)
        self._excesses_s: deque[float] = deque(maxlen=_RECENT)
        #: The least counts: pauses between steps, as of an evaluation, are no training.
        self._steps_s: deque[float] = deque(maxlen=_RECENT)

    def note(self, *, cost_s: float, excess_s: float, step_s: float) -> None:
        """Take in a measured step: how long the thread measured, and by how much it took longer.

        `step_s` is that of a step that was not measured; 0 where there was none before.
        """
        self._costs_s.append(cost_s)
        self._excesses_s.append(excess_s)
        self._steps_s.extend([step_s] if step_s > 0.0 else ())

    @property
    def is_known(self) -> bool:
        """Whether what a step takes was seen."""
        return bool(self._steps_s)

    @property
    def first_steps(self) -> int:
        """Steps before the first that is measured, of a loop that begins or goes on."""
        return _FIRST_STEPS if self._given is None and not self._costs_s else self.every - 1

    @property
    def every(self) -> int:
        """k, of one measured step to the next."""
        if self._given is not None or not self._steps_s:
            return self._given or _UNKNOWN
        afforded_s = _PLANNED_FRACTION * MOST_COST_FRACTION * min(self._steps_s)
        return max(1, math.ceil(self._cost_s / afforded_s))

    @property
    def cost_fraction(self) -> float | None:
        """What measuring takes of a step's time, averaged; None before it is known."""
        return self._cost_s / (min(self._steps_s) * self.every) if self._steps_s else None

    @property
    def _cost_s(self) -> float:
        """Of one measured step: others work for the thread, and caches are emptied, unseen."""
        return max(statistics.median(self._costs_s), statistics.median(self._excesses_s))
