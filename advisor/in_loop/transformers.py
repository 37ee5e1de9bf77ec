"""The monitor and the schedule in Hugging Face's Trainer, with its own checkpoints."""

import gc
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import has_length

from advisor.advice.notation import BatchSizeTable
from advisor.in_loop.schedule import BatchSizeSchedule
from advisor.in_loop.trainer_monitor import TrainerMonitor
from advisor.in_loop.trainer_steps import TrainerSteps

#: Where the states stand in a checkpoint's trainer_state.json.
_KEY, _NOISE_KEY = "bsadvisor", "bsadvisor_noise"


class NoiseScaleCallback(TrainerMonitor, TrainerCallback):
    """Has a NoiseScaleMonitor around the Trainer's loop; may be the monitor of a schedule.

    Args:
        settings: As of NoiseScaleMonitor.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Watch the loop, and go on from a checkpoint where the Trainer does."""
        kept = _get_states(state).get(_NOISE_KEY)
        if state.global_step and kept:
            self.load_state_dict(kept)
        self.begin(_find_called(more["model"], args), more["optimizer"])

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Leave the state for a checkpoint."""
        if control.should_save:
            _get_states(state)[_NOISE_KEY] = self.state_dict()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Watch it no more."""
        self.end()


def _find_called(model: nn.Module, args: TrainingArguments) -> nn.Module:
    """Return the model as the Trainer calls it, of which callbacks are told the inner one."""
    if args.world_size == 1:
        return model
    every = (each for each in gc.get_objects() if type(each) is DistributedDataParallel)
    return next((each for each in every if each.module is model), model)


class BatchSizeScheduleCallback(TrainerCallback):
    """Has the accumulation follow a BatchSizeSchedule.

    All numbers of steps, those that the user gave and those that the Trainer shows, are steps of
    the first batch: `max_steps`, the rate's schedule, what is logged and saved, and the data that a
    resumed run leaves out stay the same in samples. Give the callback to the Trainer's constructor.

    Args:
        table: As of BatchSizeSchedule.
        settings: The same, but for the micro-batch and the ranks, which the Trainer has.
    """

    def __init__(self, table: str | BatchSizeTable, **settings: Any) -> None:
        self._table, self._settings = table, settings
        self._steps: TrainerSteps | None = None
        self._is_resumed = False
        self._worth = 0

    @property
    def schedule(self) -> BatchSizeSchedule:
        """The schedule, once the Trainer has been made."""
        return self._get_steps().schedule

    def _get_steps(self) -> TrainerSteps:
        if self._steps is None:
            raise RuntimeError(
                "give the callback to the Trainer's constructor: Trainer(callbacks=)"
            )
        return self._steps

    def on_init_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Begin with the first batch."""
        if args.deepspeed:
            raise ValueError("DeepSpeed accumulates by itself: a batch that changes needs another")
        schedule = BatchSizeSchedule(
            self._table,
            None,
            micro_batch_size=args.train_batch_size,
            world_size=args.world_size,
            **self._settings,
        )
        if min(schedule.table.list_from(0)) < schedule.batch_size:
            raise ValueError(f"the Trainer needs the smallest batch first, not as in {self._table}")
        self._steps = TrainerSteps(schedule)
        args.gradient_accumulation_steps = self._steps.first

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Go on from a checkpoint where the Trainer does."""
        steps = self._get_steps()
        steps.schedule.attach(more["optimizer"])
        loader, position = more["train_dataloader"], state.global_step * steps.first
        if has_length(loader):
            position = state.global_step % -(-len(loader) // steps.first) * steps.first
        if args.ignore_data_skip:
            position = 0
        if state.global_step and _KEY in _get_states(state):
            steps.load_state_dict(_get_states(state)[_KEY])
        elif state.global_step:
            steps.start_at(state.global_step, position=position)
        self._is_resumed = position > 0
        args.gradient_accumulation_steps = steps.schedule.micro_batches

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Begin an epoch, or go on in the middle of one."""
        if not self._is_resumed:
            args.gradient_accumulation_steps = self._get_steps().begin(0)
        self._is_resumed = False

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Count a micro-batch that is not the last of its step."""
        self._get_steps().count()

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Have the optimizer's step be one of this batch."""
        self._get_steps().count()
        self._worth = self._get_steps().end()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Count what the Trainer is about to count once, as often as samples went by."""
        state.global_step += self._worth - 1
        if not getattr(more["optimizer"], "step_was_skipped", False):
            for _ in range(self._worth - 1):
                more["lr_scheduler"].step()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Do what was due at a step that was passed over, and begin the next one."""
        now, before = state.global_step, state.global_step - self._worth

        def passes(strategy: str, interval: float) -> bool:
            return strategy == "steps" and interval > 0 and now // interval > before // interval

        control.should_log |= passes(args.logging_strategy, state.logging_steps)
        control.should_evaluate |= (
            passes(args.eval_strategy, state.eval_steps) and args.eval_delay <= now
        )
        control.should_save |= passes(args.save_strategy, state.save_steps)
        steps = self._get_steps()
        args.gradient_accumulation_steps = steps.begin(steps.position)
        _get_states(state)[_KEY] = steps.state_dict()

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any
    ) -> None:
        """Leave optimizer and arguments as they were."""
        steps = self._get_steps()
        steps.schedule.detach()
        args.gradient_accumulation_steps = steps.first


def _get_states(state: TrainerState) -> dict[str, Any]:
    """Return what the Trainer keeps of callbacks: made of a list, it is a dictionary by names."""
    kept: Any = state.stateful_callbacks
    assert isinstance(kept, dict)
    return kept
