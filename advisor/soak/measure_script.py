"""A soak of the user's own script: more of its steps than a probe runs, its evaluations among them.

Nothing is evaluated or copied here: what the script does between its steps is what it does.
"""

import time

from msgspec.structs import replace

from advisor.engine.worker.emitter import Emitter
from advisor.memory.measure import OVER_LIMIT, PeakObserver, open_gauge
from advisor.memory.measure_script import follow_to_the_limit
from advisor.soak.data import SoakTask
from advisor.soak.measure import make_soak
from advisor.training.devices import resolve_device
from advisor.training.observer import Step


class _UntilLate(PeakObserver):
    """Sees the steps for as long as there is time."""

    ends_s = 0.0

    def after_step(self, step: Step) -> bool:
        """Return whether there is time for another."""
        return super().after_step(step) and time.perf_counter() <= self.ends_s


def run(task: SoakTask, emit: Emitter) -> None:
    """Emit one Soak, `fit` or `oom`, and end the process."""
    gauge, _ = open_gauge(resolve_device(task.workload.device), task.capacity_bytes)
    observer = _UntilLate(gauge)

    def finish(failure: str | None) -> None:
        if failure is None and gauge.is_over(observer.peak_bytes):
            failure = OVER_LIMIT
        found = make_soak(task, observer, failure)
        emit(replace(found, step_times_s=found.step_times_s[1:]))  # the first holds the start

    observer.ends_s = time.perf_counter() + task.budget_s
    follow_to_the_limit(
        task.workload,
        emit,
        observer,
        finish,
        samples=task.micro_batch_size,
        accumulation=task.gradient_accumulation_steps,
        most_steps=task.steps,
    )
