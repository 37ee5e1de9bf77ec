"""Memory of the user's own script: the peaks of its steps under an enforced limit."""

from collections.abc import Callable

import torch
from msgspec.structs import replace

from advisor.engine.worker.emitter import Emitter
from advisor.engine.worker.failure import describe
from advisor.memory.data import LEAST_STEPS, MemoryTask
from advisor.memory.measure import MESSAGE_LENGTH, PeakObserver, add_peaks
from advisor.memory.measure_limit import MemoryGauge
from advisor.training.data import WorkloadSpec
from advisor.training.device_failure import is_out_of_memory
from advisor.training.devices import resolve_device
from advisor.training.script.running import ScriptRun
from advisor.units import count_of

_CAUGHT = "the script ran out of memory, and caught that"


def run(task: MemoryTask, emit: Emitter) -> None:
    """Emit one Probe, and end the process; what the script fails of but memory is raised."""
    gauge = MemoryGauge(resolve_device(task.workload.device), task.capacity_bytes)
    observer = PeakObserver(gauge)
    probe = replace(task.end("oom"), available_bytes=gauge.available_bytes)

    def finish(failure: str | None) -> None:
        times = tuple(observer.times_s[1:])
        if failure is not None:
            emit(replace(probe, message=failure))
        elif (steps := len(observer.times_s)) < LEAST_STEPS:
            text = f"{task.workload.file} ended after {count_of(steps, 'step')}"
            emit(replace(probe, outcome="error", steps=steps, message=text))
        else:
            emit(add_peaks(replace(probe, steps=len(times), step_times_s=times), observer))

    follow_to_the_limit(
        task.workload,
        emit,
        observer,
        finish,
        samples=task.micro_batch_size,
        most_steps=task.steps + 1,  # the first begins with the script
    )


def follow_to_the_limit(
    workload: WorkloadSpec,
    emit: Emitter,
    observer: PeakObserver,
    finish: Callable[[str | None], None],
    *,
    samples: int,
    accumulation: int = 1,
    most_steps: int,
) -> None:
    """Run the script, `finish` with what was said where memory ran out, and end the process.

    Memory ran out as well where the script caught that; what else it caught and ended by is its
    failure.
    """
    device = observer.gauge.device
    script = ScriptRun(
        workload,
        emit,
        observers=[observer],
        samples=samples,
        accumulation=accumulation,
        most_steps=most_steps,
        catches=True,
    )

    def end() -> None:
        failure = script.stream.failure
        if failure is not None and is_out_of_memory(failure):
            finish(describe(failure)[:MESSAGE_LENGTH])
        elif device.type == "cuda" and torch.cuda.memory_stats(device).get("num_ooms", 0):
            finish(_CAUGHT)
        elif failure is not None and script.has_ended:
            emit.fail(failure)
        else:
            finish(None)

    observer.begin()
    try:
        script.follow(end)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        finish(describe(error)[:MESSAGE_LENGTH])
        emit.stop()
