"""The throughput stage: at least three sessions, each a fresh process that times every size."""

import time
from typing import cast

from advisor.measurements import Probe
from advisor.probe.runner import WorkerTimeoutError
from advisor.recommend import derive
from advisor.search.sweep import (
    SessionPlan,
    choose_refinement,
    choose_session_plan,
    choose_sweep,
)
from advisor.session.run import Run
from advisor.spec import ThroughputTask

#: Share of the time left that the stage may take.
_BUDGET_FRACTION = 0.45
#: Share of the time left within which sessions beyond the planned ones may end: they settle where
#: the curve ends, which rarely changes the advice.
_EXTRA_FRACTION = 0.25
#: Fewer sessions give an interval several times wider.
_WANTED_SESSIONS = 3
#: Sessions after which a machine is too restless for more of them to help.
_MOST_SESSIONS = 6
#: Until a worker is ready: on a GPU it makes a context and loads kernels.
_START_S = {"cpu": 0.3, "cuda": 5.0, "mps": 3.0}
#: Least length of a timed block, in seconds: on a GPU the clock is read through a queue of work.
_BLOCK_S = {"cpu": 0.1, "cuda": 0.25, "mps": 0.25}


def run_throughput(run: Run) -> None:
    """Time every size in several sessions, more of them while the answer is not settled.

    Sizes near the answer join from the second session on.
    """
    memory = derive(run.record).memory
    if memory is None or memory.max_micro_batch_size is None or run.is_spent:
        return
    facts = run.facts
    multiple = run.spec.limits.batch_multiple
    plan = _choose_plan(
        run,
        choose_sweep(
            min_micro_batch_size=facts.min_micro_batch_size,
            max_micro_batch_size=memory.max_micro_batch_size,
            batch_multiple=multiple,
            base_batch_size=facts.base_batch_size,
        ),
    )
    if plan is None:
        run.progress.note("throughput: the budget is too short to time even one size")
        return
    sizes = plan.sizes
    started, deadline = time.monotonic(), time.monotonic() + run.left_s * _EXTRA_FRACTION
    for session in range(_MOST_SESSIONS):
        each_s = (time.monotonic() - started) / max(1, session)
        is_late = time.monotonic() + each_s > deadline
        if session >= plan.sessions and (is_late or _is_settled(run)):
            return
        if session and run.is_spent:
            run.progress.note("throughput: the budget ended before all sessions ran")
            return
        run.progress.stage(
            f"throughput: session {session + 1} of {max(plan.sessions, session + 1)}",
            left_s=run.left_s,
        )
        task = ThroughputTask(
            workload=run.spec.workload,
            micro_batch_sizes=sizes,
            session=session,
            block_s=_BLOCK_S[run.environment.device.kind],
            rounds=plan.rounds,
            budget_s=run.left_s * _BUDGET_FRACTION,
        )
        try:
            run.runner.run(
                task,
                timeout_s=run.left_s,
                on_result=lambda probe: run.keep_probe(cast("Probe", probe)),
            )
        except WorkerTimeoutError:
            run.progress.note("throughput: a session took longer than the time left")
            return
        if session == 0:
            sizes = tuple(sorted({*sizes, *_refine(run, multiple)}))


def _choose_plan(run: Run, sizes: tuple[int, ...]) -> SessionPlan | None:
    """Return the plan, the largest sizes left out where their steps leave no time for sessions.

    Sessions come before sizes: without several of them no figure has an interval, while a size that
    was not timed is named in a warning.
    """
    times, fallback = _known_step_times(run), None
    while sizes:
        plan = choose_session_plan(
            sizes,
            times,
            block_s=_BLOCK_S[run.environment.device.kind],
            session_start_s=_START_S[run.environment.device.kind],
            budget_s=run.left_s * _BUDGET_FRACTION,
            must_keep=[size for size in sizes if size == run.facts.base_batch_size],
        )
        if plan is not None and plan.sessions >= _WANTED_SESSIONS:
            return plan
        fallback = fallback or plan
        sizes = sizes[:-1]
    return fallback


def _is_settled(run: Run) -> bool:
    """Return whether it is known where larger batches stop being faster, or that none was timed."""
    throughput = derive(run.record).throughput
    if throughput is None:
        return True
    saturation = throughput.saturation
    return saturation.status != "inconclusive" or saturation.needed_batch_size is not None


def _refine(run: Run, multiple: int) -> tuple[int, ...]:
    throughput = derive(run.record).throughput
    if throughput is None:
        return ()
    return choose_refinement(throughput.points, throughput.saturation, batch_multiple=multiple)


def _known_step_times(run: Run) -> dict[int, float]:
    """Return the seconds of a step at each size that ran, the fastest seen."""
    times: dict[int, float] = {}
    for probe in run.record.probes:
        if probe.step_times_s:
            step_s = min(probe.step_times_s)
            size = probe.micro_batch_size
            times[size] = min(times.get(size, step_s), step_s)
    return times
