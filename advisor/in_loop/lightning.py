"""The monitor and the schedule in Lightning's Trainer, with its own checkpoints."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from advisor.advice.notation import BatchSizeTable
from advisor.in_loop.schedule import BatchSizeSchedule
from advisor.in_loop.trainer_monitor import TrainerMonitor
from advisor.in_loop.trainer_steps import TrainerSteps


class NoiseScaleCallback(TrainerMonitor, Callback):
    """Has a NoiseScaleMonitor around the Trainer's loop; may be the monitor of a schedule.

    Args:
        settings: As of NoiseScaleMonitor.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch the loop."""
        self.begin(trainer.strategy.model or pl_module, trainer.optimizers[0])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch it no more."""
        self.end()


class BatchSizeScheduleCallback(Callback):
    """Has the accumulation follow a BatchSizeSchedule.

    Numbers of steps that the user gives are steps of the first batch: `max_steps`, and those of a
    scheduler at the interval `step`. `trainer.global_step` counts the optimizer's steps.

    Args:
        table: As of BatchSizeSchedule.
        micro_batch_size: The batch of the loader.
        settings: As of BatchSizeSchedule, but for the ranks, which the Trainer has.
    """

    def __init__(
        self, table: str | BatchSizeTable, *, micro_batch_size: int, **settings: Any
    ) -> None:
        self._table = table
        self._settings = {**settings, "micro_batch_size": micro_batch_size}
        self._steps: TrainerSteps | None = None
        self._begins = True
        self._worth = 0

    @property
    def schedule(self) -> BatchSizeSchedule:
        """The schedule, once the Trainer fits."""
        return self._get_steps().schedule

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin with the first batch."""
        if stage != "fit":
            return
        if trainer.accumulate_grad_batches != 1:
            raise ValueError(
                "the schedule sets accumulate_grad_batches: leave that out of the Trainer"
            )
        if not pl_module.automatic_optimization or trainer.strategy.handles_gradient_accumulation:
            raise ValueError(
                "the Trainer does not accumulate here: in a module's own optimization, use a "
                "BatchSizeSchedule as in any loop"
            )
        self._steps = TrainerSteps(
            BatchSizeSchedule(self._table, None, world_size=trainer.world_size, **self._settings)
        )
        trainer.accumulate_grad_batches = self._steps.first

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Scale the optimizer's steps, also of a run that had no schedule so far."""
        steps = self._get_steps()
        steps.schedule.attach(trainer.optimizers[0])
        if trainer.global_step and not steps.taken:
            steps.start_at(trainer.global_step, position=0)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin a step where the one before has ended."""
        steps = self._get_steps()
        if self._begins:
            trainer.accumulate_grad_batches = steps.begin(batch_idx)
            self._begins, self._worth = False, 0
        steps.count()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Have the optimizer's step be one of this batch."""
        self._worth = self._get_steps().end()
        self._begins = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Step the schedulers as often as samples went by, beyond the once that the Trainer did."""
        for config in trainer.lr_scheduler_configs if self._begins else ():
            scheduler = config.scheduler
            if config.interval == "step" and not isinstance(scheduler, ReduceLROnPlateau):
                for _ in range(self._worth - 1):
                    scheduler.step()
        if 0 <= trainer.max_steps <= self._get_steps().taken:
            trainer.should_stop = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave optimizer and Trainer as they were."""
        if stage == "fit" and self._steps is not None:
            self.schedule.detach()
            trainer.accumulate_grad_batches = 1

    def state_dict(self) -> dict[str, Any]:
        """Return what the run goes on from."""
        return self._get_steps().state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on after the last step."""
        self._get_steps().load_state_dict(state_dict)

    def _get_steps(self) -> TrainerSteps:
        if self._steps is None:
            raise RuntimeError("there is no schedule before the Trainer fits")
        return self._steps
