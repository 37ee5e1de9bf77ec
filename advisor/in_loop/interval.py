"""How often a step is measured, so that it takes no more than a hundredth of the training."""

import math
import statistics
from collections import deque

#: Share of a step's time that measuring may take, averaged over the steps.
MOST_COST_FRACTION = 0.01
#: Of that, what is planned with: costs are known by a few measured steps alone.
_PLANNED_FRACTION = 0.7
#: Steps before the first measured one: the first of a training take longer than others.
_FIRST_STEPS = 8
#: Measured steps that are looked back on.
_RECENT = 9
#: Steps between two that are measured where a step's time is not known yet.
_UNKNOWN = 100


class Interval:
    """Every how manieth step is measured.

    Args:
        every: As the user wants it; None chooses by what measuring costs.
    """

    def __init__(self, every: int | None = None) -> None:
        self._given = every
        self._costs_s: deque[float] = deque(maxlen=_RECENT)
        self._steps_s: deque[float] = deque(maxlen=_RECENT)

    def note(self, *, cost_s: float, step_s: float) -> None:
        """Take in what a step's measuring cost, and the seconds of a step that was not measured."""
        self._costs_s.append(cost_s)
        if step_s > 0.0:
            self._steps_s.append(step_s)

    @property
    def first_steps(self) -> int:
        """Steps before the first that is measured, of a loop that begins or goes on."""
        return _FIRST_STEPS if self._given is None and not self._costs_s else self.every - 1

    @property
    def every(self) -> int:
        """k, of one measured step to the next."""
        if self._given is not None:
            return self._given
        if not self._costs_s or not self._steps_s:
            return _UNKNOWN
        # The least: pauses between steps, as of an evaluation, are no training.
        afforded_s = _PLANNED_FRACTION * MOST_COST_FRACTION * min(self._steps_s)
        return max(1, math.ceil(statistics.median(self._costs_s) / afforded_s))

    @property
    def cost_fraction(self) -> float | None:
        """What measuring takes of a step's time, averaged; None before it is known."""
        if not self._costs_s or not self._steps_s:
            return None
        return statistics.median(self._costs_s) / (min(self._steps_s) * self.every)
