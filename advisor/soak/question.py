"""The soak: the advised micro-batch trains for longer than a probe before it is printed."""

import signal
import time
from collections.abc import Callable

from advisor.engine.ends import WorkerDeathError
from advisor.engine.question import Question
from advisor.engine.run import Run
from advisor.rate.data import Candidate
from advisor.soak.data import SOAKS, Soak, SoakTask
from advisor.soak.plan import SOAK
from advisor.soak.tell import brief_soak, tell_soak

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


def run_soak(run: Run, find_advised: Callable[[], Candidate | None]) -> None:
    """Soak the advised micro-batch, and smaller ones of the same global batch where it fails.

    What is advised follows from the record as it is: a size that failed no longer is.
    """
    deadline = time.monotonic() + run.share_s("soak")
    for _ in range(1 + _MOST_STEPS_DOWN):
        way = find_advised()
        soaked = {soak.micro_batch_size for soak in run.record.all(SOAKS)}
        if way is None or way.micro_batch_size in soaked:
            return
        if run.is_spent:
            run.progress.note("soak: no time left to train the advised batch for longer")
            return
        budget_s = min(run.left_s, deadline - time.monotonic())
        steps = min(_STEPS, int(budget_s / (_OVERHEAD * way.step_s)))
        if steps < _LEAST_STEPS:
            run.progress.note(
                f"soak: {_LEAST_STEPS} steps of batch {way.global_batch_size} take longer than "
                "the time for it"
            )
            return
        run.progress.stage(f"soak: micro-batch {way.micro_batch_size}", left_s=run.left_s)
        task = SoakTask(
            workload=run.spec.workload,
            micro_batch_size=way.micro_batch_size,
            gradient_accumulation_steps=way.gradient_accumulation_steps,
            capacity_bytes=run.capacity_bytes,
            largest_samples=run.facts.largest_samples,
            steps=steps,
            evaluations=_EVALUATIONS,
            reserve=run.spec.limits.reserve,
            budget_s=budget_s,
        )
        run.add(SOAKS, _run_task(run, task))


def _run_task(run: Run, task: SoakTask) -> Soak:
    """Return the soak, out of memory where the kernel or a failed allocation ended the worker.

    A crash counts as that: the same step ran in the sessions that timed it.
    """
    try:
        (soak,) = run.runner.run(task, timeout_s=run.left_s)
    except WorkerDeathError as death:
        if death.code not in {-signal.SIGKILL, -signal.SIGSEGV}:
            raise
        return Soak(
            micro_batch_size=task.micro_batch_size,
            gradient_accumulation_steps=task.gradient_accumulation_steps,
            outcome="oom",
            capacity_bytes=task.capacity_bytes,
            message=death.message,
        )
    return soak


def make_question(find_advised: Callable[[Run], Candidate | None]) -> Question:
    """Return the question; the advice stands above it."""

    def soak_again(run: Run) -> bool:
        """Soak what is advised now, where that changed after the soak; return whether it did."""
        before = run.record.all(SOAKS)
        if before:
            run_soak(run, lambda: find_advised(run))
        return run.record.all(SOAKS) != before

    return Question(
        name="soak",
        keys=(SOAKS,),
        topics=(SOAK,),
        run=lambda run: run_soak(run, lambda: find_advised(run)),
        more=soak_again,
        tell=tell_soak,
        brief=brief_soak,
        fails_alone=True,
    )
