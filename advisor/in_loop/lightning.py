"""The monitor and the schedule in Lightning's Trainer, with its own checkpoints."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from advisor.in_loop.trainers import TrainerMonitor, TrainerSchedule


class NoiseScaleCallback(TrainerMonitor, Callback):
    """A NoiseScaleMonitor around the Trainer's loop."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Watch the loop."""
        self.attach(trainer.strategy.model or pl_module, trainer.optimizers[0])
        self.start()


class BatchSizeScheduleCallback(TrainerSchedule, Callback):
    """Has the accumulation follow a BatchSizeSchedule; `micro_batch_size` is the loader's batch.

    Numbers of steps that the user gives are steps of the first batch: `max_steps`, and those of a
    scheduler at the interval `step`. `trainer.global_step` counts the optimizer's steps.
    """

    _begins = True

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
        schedule = self.make_schedule(world_size=trainer.world_size)
        trainer.accumulate_grad_batches = schedule.micro_batches

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Scale the optimizer's steps, also of a run that had no schedule so far."""
        self.schedule.attach(trainer.optimizers[0])
        if trainer.global_step and not self.taken:
            self.start_at(trainer.global_step, position=0)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin a step where the one before has ended."""
        if self._begins:
            trainer.accumulate_grad_batches = self.begin_step(batch_idx)
        self._begins = False
        self.count()

    def on_before_optimizer_step(self, *_: Any) -> None:
        """Have the optimizer's step be one of this batch."""
        self.end_step()
        self._begins = True

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Step the schedulers as often as samples went by, beyond the once that the Trainer did."""
        for config in trainer.lr_scheduler_configs if self._begins else ():
            scheduler = config.scheduler
            if config.interval == "step" and not isinstance(scheduler, ReduceLROnPlateau):
                for _step in range(self.worth - 1):
                    scheduler.step()
        if 0 <= trainer.max_steps <= self.taken:
            trainer.should_stop = True

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave optimizer and Trainer as they were."""
        if stage == "fit" and self._schedule is not None:
            self._schedule.detach()
            trainer.accumulate_grad_batches = 1
