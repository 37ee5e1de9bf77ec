"""The operators of one step of the user's own script, its loader and all."""

from advisor.engine.worker.emitter import Emitter
from advisor.gate.data import OperatorCount, OperatorTask
from advisor.gate.measure import OperatorObserver
from advisor.training.checkout import refuse_strangers
from advisor.training.script.running import ScriptRun


def run(task: OperatorTask, emit: Emitter) -> None:
    """Emit the count, and end the process."""
    observer = OperatorObserver()
    script = ScriptRun(task.workload, emit, observers=(observer,), samples=task.micro_batch_size)

    def finish() -> None:
        refuse_strangers(task.workload.checkout)
        if observer.operators is not None:
            emit(OperatorCount(operators=observer.operators))

    script.follow(finish)
