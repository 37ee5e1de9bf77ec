"""What is the same in every run of the same code: operators of a step, bytes of tensors at once.

Both by torch's profiler, which sees threads of autograd and what a compiler made; a mode of the
dispatcher sees neither. On the CPU it is asked for the bytes as well: the kernel's count of the
process's pages differs by several per cent from run to run.
"""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from advisor.engine.worker.emitter import Emit
from advisor.gate.data import CountTask, StepCount
from advisor.training.checkout import refuse_strangers
from advisor.training.loop import train
from advisor.training.model_file.workload import Workload
from advisor.training.observer import Observer, Step

#: The step whose operators are counted: the first ones make the optimizer's state and compile.
COUNTED_STEP = 3
_MARK = "bsadvisor: counted step"


class StepCounter(Observer):
    """Counts from its making to the end of the step that is counted."""

    #: Known once the step is done.
    count: StepCount | None = None

    def __init__(self, device: torch.device) -> None:
        self._has_bytes = device.type == "cpu"
        self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=self._has_bytes)
        self._mark = record_function(_MARK)
        with _mute():
            self._profile.start()

    def after_step(self, step: Step) -> bool:
        """Begin to count operators after the step before, and end after the step."""
        if step.number == COUNTED_STEP - 1:
            self._mark.__enter__()  # type: ignore[no-untyped-call]
        if step.number < COUNTED_STEP:
            return True
        self._mark.__exit__(None, None, None)
        with _mute():
            self._profile.stop()
        events = self._profile.events() or ()  # type: ignore[no-untyped-call]
        (counted,) = (event.time_range for event in events if event.name == _MARK)
        operators = sum(
            # Ranges that someone named, as the optimizer's own, hold operators and are none.
            not event.is_user_annotation and counted.start <= event.time_range.start < counted.end
            for event in events
        )
        self.count = StepCount(operators=operators, peak_bytes=self._find_peak())
        return False

    def _find_peak(self) -> int | None:
        """Return the most bytes that were taken at once since the profiler was started."""
        profiler: Any = self._profile.profiler
        if not self._has_bytes:
            return None
        taken = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
        level = peak = 0
        for event in sorted(taken, key=lambda event: event.start_ns()):
            level += event.nbytes()
            peak = max(peak, level)
        return peak or None


@contextlib.contextmanager
def _mute() -> Iterator[None]:
    """Keep off the terminal what the profiler's library writes as it starts and stops."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def run(task: CountTask, emit: Emit[StepCount]) -> None:
    """Emit the count."""
    workload, size = Workload(task.workload), task.micro_batch_size
    _ = None if workload.is_step_only else workload.batches.size
    counter = StepCounter(workload.device)
    batches = iter([workload.take_worst(size, ()) for _ in range(COUNTED_STEP)])
    train(workload.make_stepper(size), batches, (counter,), micro_batch_size=size)
    refuse_strangers(task.workload.checkout)
    if counter.count is not None:
        emit(counter.count)
