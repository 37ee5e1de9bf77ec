"""The throughput stage: at least three sessions, each times every size in fresh processes.

On a GPU one process times all sizes of a session, interleaved. On a CPU each size has a process of
its own, in random order: what larger sizes freed stays in the C heap, so that a small size would
find memory which a loop of that size alone must fetch from the kernel.
"""

import itertools
import random
import time

import msgspec

from advisor.engine.budget import COMPILING_OF_THROUGHPUT, EXTRA_OF_THROUGHPUT
from advisor.engine.run import Run
from advisor.engine.runner import WorkerTimeoutError
from advisor.memory.data import PROBES
from advisor.memory.given_batch import find_given_micro_batch
from advisor.memory.plan import MEMORY
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.data import TELEMETRY, ThroughputTask
from advisor.throughput.sessions import (
    WANTED_SESSIONS,
    SessionPlan,
    choose_session_plan,
    leave_out_largest,
    wants_session,
)
from advisor.throughput.sizes import (
    MOST_SWEEP_SIZES,
    REFINING_SESSIONS,
    choose_refinement,
    choose_sweep,
)
from advisor.throughput.step_time import estimate_compile_s, read_probes

#: Until a worker is ready: on a GPU it makes a context and loads kernels.
_START_S = {"cpu": 0.3, "cuda": 5.0, "mps": 3.0}
#: Fewest sizes worth a session.
_LEAST_SIZES = 3
#: Share of a first compilation that one session takes for a size on average: the later ones find
#: the kernels in torch's cache on disk and take about a tenth.
_SESSION_COMPILES_FRACTION = 0.4
#: Least length of a timed block, in seconds: on a GPU the clock is read through a queue of work.
BLOCK_S = {"cpu": 0.1, "cuda": 0.25, "mps": 0.25}


def run_throughput(run: Run) -> None:
    """Time every size in several sessions, more of them while they promise to settle the answer.

    Sizes near the answer join after each of the first sessions.
    """
    memory, facts = run.of(MEMORY), run.facts
    if memory is None or memory.max_micro_batch_size is None or run.is_spent:
        return
    compile_s = 0.0
    if run.spec.workload.compile:
        compile_s = estimate_compile_s(run.record.all(PROBES))
    given = find_given_micro_batch(run)
    sizes = choose_sweep(
        min_micro_batch_size=facts.min_micro_batch_size,
        max_micro_batch_size=memory.max_micro_batch_size,
        batch_multiple=run.spec.limits.batch_multiple,
        base_batch_size=facts.base_batch_size,
        given_micro_batch_size=given,
        most_sizes=_count_affordable_sizes(run, compile_s),
    )
    kept = tuple(size for size in (given, facts.base_batch_size) if size is not None)
    plan, is_apart = _choose_layout(run, sizes, kept, compile_s)
    if plan is None:
        run.progress.note("throughput: the budget is too short to time even one size")
        return
    why = _run_sessions(run, plan, is_apart=is_apart)
    if why is not None:
        run.progress.note(f"throughput: {why}")


def _run_sessions(run: Run, plan: SessionPlan, *, is_apart: bool) -> str | None:
    """Run the planned sessions and what more of them promise; return what ended them early."""
    sizes = plan.sizes
    started, share_s = time.monotonic(), run.share_s("throughput")
    for session in itertools.count():
        spent_s = time.monotonic() - started
        each_s = spent_s / max(1, session)
        affordable = int((EXTRA_OF_THROUGHPUT * share_s - spent_s) / each_s) if session else 0
        found = run.of(THROUGHPUT)
        if session >= plan.sessions and not (
            found and wants_session(found, sessions=session, affordable=affordable)
        ):
            return None
        stage_left_s = share_s - spent_s
        # On a loaded machine a session may take many times what was planned with; a figure without
        # an interval is then worth less than the stages that follow.
        if session and stage_left_s < each_s / 2.0:
            return "its share of the time ended before all sessions ran"
        run.progress.stage(
            f"throughput: session {session + 1} of {max(plan.sessions, session + 1)}",
            left_s=run.left_s,
        )
        task = ThroughputTask(
            workload=run.spec.workload,
            micro_batch_sizes=sizes,
            session=session,
            block_s=BLOCK_S[run.environment.device.kind],
            rounds=plan.rounds,
            budget_s=max(stage_left_s, each_s) / max(1, plan.sessions - session),
        )
        try:
            run_session(run, split_by_size(task) if is_apart else (task,))
        except WorkerTimeoutError:
            return "a session took longer than the time left"
        found = run.of(THROUGHPUT)
        if session < REFINING_SESSIONS and found is not None:
            multiple = run.spec.limits.batch_multiple
            finer = choose_refinement(found.points, found.saturation, batch_multiple=multiple)
            sizes = tuple(sorted({*sizes, *finer}))
    return None


def split_by_size(task: ThroughputTask) -> tuple[ThroughputTask, ...]:
    """Return one task for each size, in random order."""
    sizes = list(task.micro_batch_sizes)
    random.Random(task.workload.seed * 7919 + task.session).shuffle(sizes)  # noqa: S311 - an order
    budget_s = task.budget_s / len(sizes)
    return tuple(
        msgspec.structs.replace(task, micro_batch_sizes=(size,), budget_s=budget_s)
        for size in sizes
    )


def run_session(run: Run, tasks: tuple[ThroughputTask, ...]) -> None:
    """Run one session and keep its probes, and what the counters showed meanwhile."""
    with run.runner.watched(run.environment.device, session=tasks[0].session) as read_telemetry:
        for task in tasks:
            run.runner.run(
                task, timeout_s=run.left_s, on_result=lambda probe: run.add(PROBES, probe)
            )
        telemetry = read_telemetry()
    run.add(TELEMETRY, telemetry)


def _choose_layout(
    run: Run, sizes: tuple[int, ...], kept: tuple[int, ...], compile_s: float
) -> tuple[SessionPlan | None, bool]:
    """Return the plan, and whether each size has a process of its own.

    It has none where that leaves no time for as many sizes in three sessions, or where the model is
    compiled, which starts anew in every process.
    """
    together = _choose_plan(run, sizes, kept, compile_s, are_apart=False)
    if together and run.environment.device.kind == "cpu" and not run.spec.workload.compile:
        apart = _choose_plan(run, sizes, kept, compile_s, are_apart=True)
        if apart and apart.sessions >= WANTED_SESSIONS and len(apart.sizes) >= len(together.sizes):
            return apart, True
    return together, False


def _choose_plan(
    run: Run, sizes: tuple[int, ...], kept: tuple[int, ...], compile_s: float, *, are_apart: bool
) -> SessionPlan | None:
    """Return the plan, the largest sizes left out where their steps leave no time for sessions.

    Sessions come before sizes: without several of them no figure has an interval, while a size that
    was not timed is named in a warning.
    """
    kind, fallback = run.environment.device.kind, None
    start_s = max(_START_S[kind], run.start_s)
    while sizes:
        compiling_s = _SESSION_COMPILES_FRACTION * compile_s * len(sizes)
        plan = choose_session_plan(
            sizes,
            read_probes(run.record.all(PROBES)),
            block_s=BLOCK_S[kind],
            session_start_s=start_s * (len(sizes) if are_apart else 1) + compiling_s,
            budget_s=run.share_s("throughput"),
            must_keep=kept,
        )
        if plan is not None and plan.sessions >= WANTED_SESSIONS:
            return plan
        fallback = fallback or plan
        sizes = leave_out_largest(sizes, kept=kept)
    return fallback


def _count_affordable_sizes(run: Run, compile_s: float) -> int:
    """Return how many sizes compile within half of the stage's time, at least the ends."""
    if compile_s <= 0.0:
        return MOST_SWEEP_SIZES
    affordable = int(COMPILING_OF_THROUGHPUT * run.share_s("throughput") / compile_s)
    return max(_LEAST_SIZES, min(MOST_SWEEP_SIZES, affordable))
