"""The soak: the advised micro-batch trains for longer than a probe before it is printed."""

import signal
import time

from advisor.advice.data import Recommendation
from advisor.advice.plan import ADVICE
from advisor.engine.run import Run
from advisor.engine.runner import WorkerDeathError, WorkerTimeoutError
from advisor.soak.data import Soak, SoakTask
from advisor.throughput.step_time import StepTimes, estimate_step_s

#: Share of the budget that all soaks together may take.
_BUDGET_FRACTION = 0.1
#: Optimizer steps of a soak where time allows: four times what a leak is told from noise with.
_STEPS = 60
#: Fewer steps are hardly more than the probes ran.
_LEAST_STEPS = 6
#: Evaluation passes between them.
_EVALUATIONS = 3
#: Smaller micro-batches that are tried where the advised one runs out of memory.
_MOST_STEPS_DOWN = 3
#: Time of a step here over a timed one: the heap that makes peaks exact is slower.
_OVERHEAD = 2.0
#: How a process ends that the kernel, or a library that does not check an allocation, gave up.
_MEMORY_SIGNALS = frozenset(
    {-signal.SIGKILL, -signal.SIGSEGV} if hasattr(signal, "SIGKILL") else ()
)


def run_soak(run: Run) -> None:
    """Soak the advised micro-batch, and smaller ones of the same global batch where it fails.

    The advice that is derived from the record then follows what was soaked.
    """
    deadline = time.monotonic() + _BUDGET_FRACTION * run.spec.limits.budget_s
    for _ in range(1 + _MOST_STEPS_DOWN):
        advice = run.of(ADVICE)
        if advice is None or _is_soaked(run, advice):
            return
        if run.is_spent:
            run.progress.note("soak: no time left to train the advised batch for longer")
            return
        soak = _soak(run, advice, min(run.left_s, deadline - time.monotonic()))
        if soak is None:
            return
        run.keep_soak(soak)


def _is_soaked(run: Run, advice: Recommendation) -> bool:
    """Return whether the size was soaked; one that failed by its size is no longer advised."""
    return any(soak.micro_batch_size == advice.micro_batch_size for soak in run.record.soaks)


def _soak(run: Run, advice: Recommendation, budget_s: float) -> Soak | None:
    """Return the soak; None where its time does not suffice."""
    times = StepTimes(step_s={each.global_batch_size: each.step_s for each in advice.candidates})
    step_s = _OVERHEAD * (estimate_step_s(times, advice.global_batch_size) or 0.0)
    steps = min(_STEPS, int(budget_s / step_s)) if step_s > 0.0 else _STEPS
    if steps < _LEAST_STEPS:
        run.progress.note(
            f"soak: {_LEAST_STEPS} steps of batch {advice.global_batch_size} take longer than the "
            "time for it"
        )
        return None
    run.progress.stage(f"soak: micro-batch {advice.micro_batch_size}", left_s=run.left_s)
    task = SoakTask(
        workload=run.spec.workload,
        micro_batch_size=advice.micro_batch_size,
        gradient_accumulation_steps=advice.gradient_accumulation_steps,
        capacity_bytes=run.capacity_bytes,
        largest_samples=run.facts.largest_samples,
        steps=steps,
        evaluations=_EVALUATIONS,
        reserve=run.spec.limits.reserve,
        budget_s=budget_s,
    )
    try:
        (result,) = run.runner.run(task, timeout_s=run.left_s)
    except WorkerTimeoutError:
        run.progress.note("soak: it took longer than the time left")
        return None
    except WorkerDeathError as death:
        return _judge_death(task, death)
    return result


def _judge_death(task: SoakTask, death: WorkerDeathError) -> Soak:
    """Return an out-of-memory soak where the kernel or a failed allocation ended the worker.

    The same step ran in the sessions that timed it, so that a crash here is taken for the limit's.
    """
    if death.code not in {-signal.SIGKILL, -signal.SIGSEGV}:
        raise death
    return Soak(
        micro_batch_size=task.micro_batch_size,
        gradient_accumulation_steps=task.gradient_accumulation_steps,
        outcome="oom",
        capacity_bytes=task.capacity_bytes,
        message=death.message,
    )
