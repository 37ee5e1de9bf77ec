"""The monitor and a schedule in a library's trainer, which makes the optimizer and the loop."""

from typing import Any

from advisor.advice.notation import BatchSizeTable
from advisor.in_loop.monitor import NoiseScaleMonitor
from advisor.in_loop.schedule import BatchSizeSchedule


class TrainerMonitor(NoiseScaleMonitor):
    """A NoiseScaleMonitor around a trainer's loop; may be the monitor of a schedule."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(None, None, **settings)

    def on_train_end(self, *_: Any, **_more: Any) -> None:
        """Watch it no more; the value stays."""
        self.stop()


class TrainerSchedule:
    """Has a trainer's accumulation follow a BatchSizeSchedule, whose settings it takes.

    Such a trainer takes a step where the micro-batches of the epoch are a multiple of the
    accumulation, so a batch begins where they are one of its own: for a doubling one step late at
    most.

    Attributes:
        first: Micro-batches of the first batch, on each rank: the trainer's own accumulation.
        taken: Steps of the first batch that all steps so far are worth: what the numbers of steps
            that the user gave a trainer count.
        position: Micro-batches of this epoch up to the end of the last step, on each rank.
        worth: What the last step added to `taken`.
    """

    def __init__(self, table: str | BatchSizeTable, **settings: Any) -> None:
        self._table, self._settings = table, settings
        self._schedule: BatchSizeSchedule | None = None
        self.first = self.taken = self.position = self.worth = self._done = 0

    @property
    def schedule(self) -> BatchSizeSchedule:
        """The schedule, once the trainer is there; RuntimeError before."""
        if self._schedule is None:
            raise RuntimeError(
                "there is no schedule before the Trainer: give the callback to its constructor"
            )
        return self._schedule

    def make_schedule(self, **trainers: Any) -> BatchSizeSchedule:
        """Make the schedule, with what the trainer has."""
        self._schedule = BatchSizeSchedule(self._table, None, **trainers, **self._settings)
        self.first, self.taken = self._schedule.micro_batches, 0
        self.position = self._done = 0
        return self._schedule

    def start_at(self, steps: int, *, position: int) -> None:
        """Go on with a run that had no schedule, after so many steps of the first batch."""
        self.taken, self.position = steps, position
        self.schedule.start_at(steps * self.schedule.table.first, position=position)

    def begin_step(self, position: int) -> int:
        """Choose the batch of the step that comes; return its micro-batches."""
        self.position, self._done = position, 0
        self.schedule.begin_step(position=position)
        self.schedule.set_settings()  # a closure runs the last micro-batch within the step
        return self.schedule.micro_batches

    def count(self) -> None:
        """Count a micro-batch."""
        self._done += 1

    def end_step(self) -> None:
        """Count a step; the optimizer's own comes next."""
        self.schedule.end_step(self._done)
        before = -(-self.position // self.first)
        self.position, self._done = self.position + self._done, 0
        self.worth = -(-self.position // self.first) - before
        self.taken += self.worth

    def state_dict(self) -> dict[str, Any]:
        """Return what the run goes on from, on any number of ranks."""
        return {
            "schedule": self.schedule.state_dict(),
            "taken": self.taken,
            "epoch_samples": self.position * self.schedule.micro_batch_samples,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after the last step."""
        self.taken, self._done = state_dict["taken"], 0
        self.position = state_dict["epoch_samples"] // self.schedule.micro_batch_samples
        self.schedule.load_state_dict(state_dict["schedule"], position=self.position)
