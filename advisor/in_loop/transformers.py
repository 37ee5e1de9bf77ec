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

from advisor.in_loop.trainers import TrainerMonitor, TrainerSchedule

#: Where the states stand in a checkpoint's trainer_state.json.
_KEY, _NOISE_KEY = "bsadvisor", "bsadvisor_noise"


class NoiseScaleCallback(TrainerMonitor, TrainerCallback):
    """A NoiseScaleMonitor around the Trainer's loop."""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, *_: Any, **more: Any
    ) -> None:
        """Watch the loop, and go on from a checkpoint where the Trainer does."""
        kept = _get_states(state).get(_NOISE_KEY)
        if state.global_step and kept:
            self.load_state_dict(kept)
        self.attach(_find_called(more["model"], args), more["optimizer"])
        self.start()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Leave the state for a checkpoint."""
        if control.should_save:
            _get_states(state)[_NOISE_KEY] = self.state_dict()


def _find_called(model: nn.Module, args: TrainingArguments) -> nn.Module:
    """Return the model as the Trainer calls it, of which callbacks are told the inner one."""
    if args.world_size == 1:
        return model
    every = (each for each in gc.get_objects() if type(each) is DistributedDataParallel)
    return next((each for each in every if each.module is model), model)


class BatchSizeScheduleCallback(TrainerSchedule, TrainerCallback):
    """Has the accumulation follow a BatchSizeSchedule, but for the micro-batch and the ranks.

    All numbers of steps, those that the user gave and those that the Trainer shows, are steps of
    the first batch: `max_steps`, the rate's schedule, what is logged and saved, and the data that a
    resumed run leaves out stay the same in samples. Give the callback to the Trainer's constructor.
    """

    _is_resumed = False

    def on_init_end(self, args: TrainingArguments, *_: Any, **_more: Any) -> None:
        """Begin with the first batch."""
        if args.deepspeed:
            raise ValueError("DeepSpeed accumulates by itself: a batch that changes needs another")
        schedule = self.make_schedule(
            micro_batch_size=args.train_batch_size, world_size=args.world_size
        )
        if min(schedule.table.list_from(0)) < schedule.batch_size:
            raise ValueError(f"the Trainer needs the smallest batch first, not as in {self._table}")
        args.gradient_accumulation_steps = self.first

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, *_: Any, **more: Any
    ) -> None:
        """Go on from a checkpoint where the Trainer does."""
        self.schedule.attach(more["optimizer"])
        loader, position = more["train_dataloader"], state.global_step * self.first
        if has_length(loader):
            position = state.global_step % -(-len(loader) // self.first) * self.first
        if args.ignore_data_skip:
            position = 0
        if state.global_step and _KEY in _get_states(state):
            self.load_state_dict(_get_states(state)[_KEY])
        elif state.global_step:
            self.start_at(state.global_step, position=position)
        self._is_resumed = position > 0
        args.gradient_accumulation_steps = self.schedule.micro_batches

    def on_epoch_begin(self, args: TrainingArguments, *_: Any, **_more: Any) -> None:
        """Begin an epoch, or go on in the middle of one."""
        if not self._is_resumed:
            args.gradient_accumulation_steps = self.begin_step(0)
        self._is_resumed = False

    def on_substep_end(self, *_: Any, **_more: Any) -> None:
        """Count a micro-batch that is not the last of its step."""
        self.count()

    def on_pre_optimizer_step(self, *_: Any, **_more: Any) -> None:
        """Have the optimizer's step be one of this batch."""
        self.count()
        self.end_step()

    def on_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, *_: Any, **more: Any
    ) -> None:
        """Count what the Trainer is about to count once, as often as samples went by."""
        state.global_step += self.worth - 1
        if not getattr(more["optimizer"], "step_was_skipped", False):
            for _step in range(self.worth - 1):
                more["lr_scheduler"].step()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> None:
        """Do what was due at a step that was passed over, and begin the next one."""
        now, before = state.global_step, state.global_step - self.worth

        def passes(strategy: str, interval: float) -> bool:
            return strategy == "steps" and interval > 0 and now // interval > before // interval

        control.should_log |= passes(args.logging_strategy, state.logging_steps)
        control.should_evaluate |= (
            passes(args.eval_strategy, state.eval_steps) and args.eval_delay <= now
        )
        control.should_save |= passes(args.save_strategy, state.save_steps)
        args.gradient_accumulation_steps = self.begin_step(self.position)
        _get_states(state)[_KEY] = self.state_dict()

    def on_train_end(self, args: TrainingArguments, *_: Any, **_more: Any) -> None:
        """Leave optimizer and arguments as they were."""
        self.schedule.detach()
        args.gradient_accumulation_steps = self.first


def _get_states(state: TrainerState) -> dict[str, Any]:
    """Return what the Trainer keeps of callbacks: made of a list, it is a dictionary by names."""
    kept: Any = state.stateful_callbacks
    assert isinstance(kept, dict)
    return kept
