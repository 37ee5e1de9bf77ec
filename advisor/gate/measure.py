"""How many operators does one optimizer step launch? Counted by torch's profiler.

What a step launches is the same in every run of the same code, whatever the machine does meanwhile.
The profiler sees threads of autograd and what a compiler made; a mode of the dispatcher sees
neither.
"""

import contextlib
import os
from collections.abc import Iterator

from torch.profiler import ProfilerActivity, profile

from advisor.engine.worker.emitter import Emit
from advisor.gate.data import OperatorCount, OperatorTask
from advisor.training.checkout import refuse_strangers
from advisor.training.loop import train
from advisor.training.model_file.workload import Workload
from advisor.training.observer import Step

#: The step that is counted: the first ones make the optimizer's state and compile.
COUNTED_STEP = 3


class OperatorObserver:
    """Counts the operators of one step, from the end of the step before it.

    Attributes:
        operators: Known once the step is done.
    """

    operators: int | None = None

    def __init__(self) -> None:
        self._profile = profile(activities=[ProfilerActivity.CPU])

    def before_step(self, step: Step) -> None:
        """Do nothing."""

    def after_step(self, step: Step) -> bool:
        """Begin to count after the step before, and end after the step."""
        if step.number == COUNTED_STEP - 1:
            with _mute():
                self._profile.start()
        if step.number < COUNTED_STEP:
            return True
        with _mute():
            self._profile.stop()
        events = self._profile.events()  # type: ignore[no-untyped-call]
        # Ranges that someone named, as the optimizer's own, hold operators and are none.
        self.operators = sum(not event.is_user_annotation for event in events or ())
        return False


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


def run(task: OperatorTask, emit: Emit[OperatorCount]) -> None:
    """Emit the count."""
    workload, size = Workload(task.workload), task.micro_batch_size
    batches = iter([workload.take_worst(size, ()) for _ in range(COUNTED_STEP)])
    observer = OperatorObserver()
    train(workload.make_stepper(size), batches, (observer,), micro_batch_size=size)
    refuse_strangers(task.workload.checkout)
    if observer.operators is not None:
        emit(OperatorCount(operators=observer.operators))
