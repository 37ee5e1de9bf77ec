"""Steps as the libraries' trainers take them: counted from the start of each epoch, cut at its end.

Such a trainer takes a step where the micro-batches of the epoch are a multiple of the accumulation,
so a batch begins where they are a multiple of its own: for a doubling at most one step late.
"""

from typing import Any

from advisor.in_loop.schedule import BatchSizeSchedule


class TrainerSteps:
    """Follows a trainer's steps with a schedule.

    Args:
        schedule: Its first batch gives the trainer's own accumulation.

    Attributes:
        first: Micro-batches of the first batch, on each rank.
        taken: Steps of the first batch that all steps so far are worth: what the numbers of steps
            that the user gave a trainer count.
    """

    def __init__(self, schedule: BatchSizeSchedule) -> None:
        self.schedule = schedule
        self.first, self.taken = schedule.micro_batches, 0
        self._position = self._done = 0

    def start_at(self, steps: int, *, position: int) -> None:
        """Go on with a run that had no schedule, after so many steps of the first batch."""
        self.taken, self._position = steps, position
        self.schedule.start_at(steps * self.schedule.table.first, position=position)

    def begin(self, position: int) -> int:
        """Choose the batch of the step that comes; return its micro-batches.

        Args:
            position: Micro-batches of this epoch that this rank is done with.
        """
        self._position, self._done = position, 0
        self.schedule.begin_step(position=position)
        self.schedule.set_settings()  # a closure runs the last micro-batch within the step
        return self.schedule.micro_batches

    def count(self) -> None:
        """Count a micro-batch."""
        self._done += 1

    def end(self) -> int:
        """Count a step, the optimizer's own comes next; return what it adds to `taken`."""
        self.schedule.end_step(self._done)
        before = -(-self._position // self.first)
        self._position, self._done = self._position + self._done, 0
        worth = -(-self._position // self.first) - before
        self.taken += worth
        return worth

    @property
    def position(self) -> int:
        """Micro-batches of this epoch up to the end of the last step, on each rank."""
        return self._position

    def state_dict(self) -> dict[str, Any]:
        """Return what the run goes on from, on any number of ranks."""
        return {
            "schedule": self.schedule.state_dict(),
            "taken": self.taken,
            "epoch_samples": self._position * self.schedule.micro_batch_samples,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the last step."""
        self.taken, self._done = state["taken"], 0
        self._position = state["epoch_samples"] // self.schedule.micro_batch_samples
        self.schedule.load_state_dict(state["schedule"], position=self._position)
