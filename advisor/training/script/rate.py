"""The rate of the script's steps: its own schedule times one factor, its warm-up compressed."""

from advisor.training.optimizer_facts import find_leading, to_number
from advisor.training.script.stream import StepStream

#: Share of the rate that was given below which the first step shows a warm-up.
_WARM_FRACTION = 0.5


class RateFactor:
    """By what the script's rates are multiplied.

    A warm-up of thousands of steps would leave a short run at hardly any rate, and a batch that
    takes more steps ahead: where the first step shows one, the rate rises in these steps instead.
    The rate is of the first group that trains, None keeps the script's own; `warmup_steps` come in
    place of the script's own, 0 keeps these. `warms_up`: the script does.
    """

    stream: StepStream

    def __init__(self, rate: float | None, warmup_steps: int = 0) -> None:
        self._rate, self._warmup_steps = rate, warmup_steps
        self.warms_up = False

    def attach(self, stream: StepStream) -> None:
        """Have the stream multiply by this."""
        self.stream = stream
        stream.find_factor = self.find

    def set_rate(self, rate: float) -> None:
        """Have the steps that come use this rate, others groups in proportion."""
        self._rate = rate

    def find(self) -> float:
        """Return the factor of the step that comes."""
        stream = self.stream
        given = stream.given_rate
        if not given or stream.optimizer is None:
            return 1.0
        group = stream.optimizer.param_groups[find_leading(stream.given_rates)]
        now = to_number(group.get("lr")) or 0.0
        rate = given if self._rate is None else self._rate
        if stream.count == 0:
            self.warms_up = bool(self._warmup_steps) and now < _WARM_FRACTION * given
        if not self.warms_up:
            return rate / given
        risen = min(1.0, (stream.trained + 1) / self._warmup_steps)
        return rate * risen / now if now > 0.0 else 1.0
