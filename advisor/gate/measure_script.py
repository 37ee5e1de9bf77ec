"""The operators of one step of the user's own script, its loader and all, and its bytes."""

from advisor.engine.worker.emitter import Emitter
from advisor.gate.data import CountTask
from advisor.gate.measure import StepCounter
from advisor.training.checkout import refuse_strangers
from advisor.training.devices import resolve_device
from advisor.training.script.running import ScriptRun


def run(task: CountTask, emit: Emitter) -> None:
    """Emit the count, and end the process."""
    counter = StepCounter(resolve_device(task.workload.device))
    script = ScriptRun(task.workload, emit, observers=(counter,), samples=task.micro_batch_size)

    def finish() -> None:
        refuse_strangers(task.workload.checkout)
        if counter.count is not None:
            emit(counter.count)

    script.follow(finish)
