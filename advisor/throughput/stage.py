"""The throughput stage: three sessions in fresh processes, and more while the answer is open.

On a GPU one process times all sizes of a session, interleaved. On a CPU each has a process of its
own: it would find memory in the C heap that larger ones freed, and a loop of it alone does not.
"""

import signal
import time
from collections.abc import Collection, Sequence
from typing import Any

from msgspec.structs import replace

from advisor.engine.budget import COMPILING_OF_THROUGHPUT
from advisor.engine.ends import WorkerDeathError, WorkerTimeoutError
from advisor.engine.question import Question
from advisor.engine.run import Run
from advisor.errors import DeviceError, InconclusiveError, WorkloadError
from advisor.memory.data import PROBES, Probe
from advisor.memory.given_batch import find_given_micro_batch
from advisor.memory.plan import MEMORY
from advisor.memory.refusals import may_run
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.data import TELEMETRY, ThroughputConclusion, ThroughputTask
from advisor.throughput.plan import (
    MOST_SWEEP_SIZES,
    SessionPlan,
    choose_next,
    choose_session_plan,
    choose_sweep,
)
from advisor.throughput.saturation import LEAST_SIZES, is_settled
from advisor.throughput.step_time import estimate_compile_s, read_probes
from advisor.throughput.tell import brief_throughput, tell_speed, tell_throughput

#: Until a worker is ready: on a GPU it makes a context and loads kernels.
_START_S = {"cpu": 0.3, "cuda": 5.0, "mps": 3.0}
#: Sessions of all sizes that the time must hold: one alone shows no noise.
_LEAST_SESSIONS = 2
#: Sessions that settle where the curve ends, or never will on a machine this restless.
_MOST_SESSIONS = 8
#: Of the first sweep's largest sizes, those that a later session times again or at last.
_LEFT_OUT = 3
#: Share of a first compilation that a session takes for a size: later ones find kernels on disk.
_SESSION_COMPILES_FRACTION = 0.4
#: Least length of a timed block, in seconds: on a GPU the clock is read through a queue of work.
BLOCK_S = {"cpu": 0.1, "cuda": 0.25, "mps": 0.25}
#: Steps of one on a CPU: among a few there is one that neighbours left alone.
_WANTED_STEPS = 4


def run_throughput(run: Run) -> None:
    """Time every size once, then those near the answer, in three sessions."""
    memory = run.of(MEMORY)
    if memory is None or memory.max_micro_batch_size is None or run.is_spent:
        return
    plan = _choose_layout(run, _choose_sizes(run, memory.max_micro_batch_size))
    if plan is None:
        late = InconclusiveError("the budget is too short to time even one size")
        run.keep_failure("throughput", late)
        return
    why = _run_sessions(run, plan)
    if why:
        run.progress.note(f"throughput: {why}")


def time_once_more(run: Run) -> bool:
    """Time sizes near the answer, and those left out, while it is open; return whether it did."""
    found, timed, memory = run.of(THROUGHPUT), _list_timed(run), run.of(MEMORY)
    if found is None or not timed or is_settled(found.saturation):
        return False
    last = max(probe.session for probe in timed)
    mine = [probe for probe in timed if probe.session == last]
    largest = None if memory is None else memory.max_micro_batch_size
    left_out = set(_choose_sizes(run, largest or 0)[-_LEFT_OUT:])
    if found.saturation.status == "inconclusive":
        left_out -= {point.micro_batch_size for point in found.points}
    plan = _choose_plan(
        run,
        left_out.union(_choose_next(run, found, last)),
        is_apart=len({probe.canary_times_s for probe in mine}) == len(mine),
        budget_s=run.left_s,
    )
    if last + 1 >= _MOST_SESSIONS or plan is None or not set(plan.sizes) - set(_list_kept(run)):
        return False
    try:
        _time_session(run, plan, last + 1, budget_s=run.left_s / 2.0)
    except (WorkerTimeoutError, DeviceError):
        return False
    return True


def time_sizes(run: Run, sizes: Sequence[int]) -> None:
    """Time these sizes beside each other once more, each in a process of its own."""
    session = 1 + max((probe.session for probe in _list_timed(run)), default=-1)
    plan = SessionPlan(tuple(sizes), 1, 1, is_apart=True)
    _time_session(run, plan, session, budget_s=run.left_s / 2.0)


def _choose_sizes(run: Run, largest: int) -> tuple[int, ...]:
    """Return the first sweep: as many sizes as compile in their share of the time."""
    most, compile_s = MOST_SWEEP_SIZES, _estimate_compile_s(run)
    if compile_s > 0.0:
        affordable = int(COMPILING_OF_THROUGHPUT * run.share_s("throughput") / compile_s)
        most = max(LEAST_SIZES, min(most, affordable))
    sweep = choose_sweep(
        min_micro_batch_size=run.facts.min_micro_batch_size,
        max_micro_batch_size=largest,
        batch_multiple=run.spec.limits.batch_multiple,
        wanted=_list_kept(run),
        most_sizes=most,
    )
    return _list_runnable(run, sweep)


def _list_runnable(run: Run, sizes: Sequence[int]) -> tuple[int, ...]:
    """Return the sizes that the model runs, without those that failed when timed."""
    probes = run.record.all(PROBES)
    timed = (probe for probe in probes if probe.stage == "throughput")
    failed = {probe.micro_batch_size for probe in timed if probe.outcome != "fit"}
    return tuple(size for size in sizes if may_run(size, probes) and size not in failed)


def _estimate_compile_s(run: Run) -> float:
    return estimate_compile_s(run.record.all(PROBES)) if run.spec.workload.compile else 0.0


def _list_timed(run: Run) -> list[Probe]:
    probes = run.record.all(PROBES)
    return [probe for probe in probes if probe.stage == "throughput" and probe.outcome == "fit"]


def _list_kept(run: Run) -> tuple[int, ...]:
    """Return the sizes that every session times: the given one, and the user's own."""
    own = (find_given_micro_batch(run), run.facts.base_batch_size)
    return tuple(size for size in own if size is not None)


def _choose_next(run: Run, found: ThroughputConclusion, session: int) -> tuple[int, ...]:
    multiple = run.spec.limits.batch_multiple
    chosen = choose_next(found, session=session, kept=_list_kept(run), batch_multiple=multiple)
    return _list_runnable(run, chosen)


def _run_sessions(run: Run, plan: SessionPlan) -> str:
    """Run the planned sessions; return what ended them early, empty where nothing did."""
    started, share_s = time.monotonic(), run.share_s("throughput")
    for session in range(plan.sessions):
        spent_s = time.monotonic() - started
        each_s = spent_s / max(1, session)
        stage_left_s = share_s - spent_s
        # On a loaded machine a session may take many times what was planned with; a figure without
        # an interval is then worth less than the stages that follow.
        if session and stage_left_s < each_s / 2.0:
            return "its share of the time ended before all sessions ran"
        budget_s = max(stage_left_s, each_s) / (plan.sessions - session)
        try:
            _time_session(run, plan, session, budget_s=budget_s)
        except WorkerTimeoutError as error:
            if _list_timed(run):
                return "a session took longer than the time left"
            run.keep_failure("throughput", error)  # it says where the user's code stood
            return ""
        except DeviceError as error:
            if not _list_timed(run):
                raise
            return error.message
        _refuse_short(run)
        found = run.of(THROUGHPUT)
        if found is not None and found.points:
            plan = plan._replace(sizes=_choose_next(run, found, session))
    return ""


def _refuse_short(run: Run) -> None:
    """Raise WorkloadError for a script that ends before a block was timed, at its own batch."""
    own, timed = run.facts.base_batch_size, {each.micro_batch_size for each in _list_timed(run)}
    for probe in run.record.all(PROBES):
        size, how = probe.micro_batch_size, (probe.stage, probe.outcome)
        if how == ("throughput", "error") and size not in timed and (size == own or not timed):
            raise WorkloadError(
                f"{probe.message} of batch {size}, too few to time a block of them",
                next_step="Let it run for more steps or epochs: each start ends by itself once "
                "enough were seen.",
            )


def _time_session(run: Run, plan: SessionPlan, session: int, *, budget_s: float) -> None:
    """Run one session of the plan, its number among those planned told."""
    told = f"{session + 1} of {plan.sessions}" if session < plan.sessions else f"{session + 1}"
    run.progress.stage(f"throughput: session {told}", left_s=run.left_s)
    ran = {probe.micro_batch_size for probe in run.record.all(PROBES) if probe.outcome == "fit"}
    task = make_task(
        run,
        micro_batch_sizes=plan.sizes,
        session=session,
        least_steps=plan.least_steps,
        rounds=plan.rounds,
        budget_s=budget_s,
        untried=tuple(size for size in plan.sizes if size not in ran),
    )
    run_session(run, split_by_size(task) if plan.is_apart else (task,))


def make_task(run: Run, **settings: Any) -> ThroughputTask:
    """Return a session's task with these settings, in blocks as long as the device needs."""
    settings = {"workload": run.spec.workload, "budget_s": run.left_s, **settings}
    return ThroughputTask(block_s=BLOCK_S[run.environment.device.kind], **settings)


def split_by_size(task: ThroughputTask) -> tuple[ThroughputTask, ...]:
    """Return one task for each size, in random order."""
    sizes = list(task.micro_batch_sizes)
    task.make_order().shuffle(sizes)
    budget_s = task.budget_s / len(sizes)
    return tuple(replace(task, micro_batch_sizes=(size,), budget_s=budget_s) for size in sizes)


def run_session(run: Run, tasks: tuple[ThroughputTask, ...]) -> None:
    """Run one session and keep its probes, and what the counters showed meanwhile."""
    with run.runner.watched(run.environment.device, session=tasks[0].session) as read_telemetry:
        for task in tasks:
            _run_task(run, task)
        telemetry = read_telemetry()
    run.add(TELEMETRY, telemetry)


def _run_task(run: Run, task: ThroughputTask) -> None:
    """Time sizes in a process; one that the kernel killed at a size alone ran out of memory.

    A CPU's memory probe is limited to its own process; a container counts all that is in it.
    """
    try:
        run.runner.run(task, timeout_s=run.left_s, on_result=lambda probe: run.add(PROBES, probe))
    except WorkerDeathError as death:
        size, *others = task.micro_batch_sizes
        if death.code != -signal.SIGKILL or others or size <= run.facts.min_micro_batch_size:
            raise
        run.progress.note(f"throughput: micro-batch {size}: {death.message}")
        failed = Probe(
            stage="throughput",
            session=task.session,
            micro_batch_size=size,
            outcome="oom",
            message=death.message,
        )
        run.add(PROBES, failed)


def _choose_layout(run: Run, sizes: tuple[int, ...]) -> SessionPlan | None:
    """Return the plan; each size has a process of its own on a CPU, and of a script always.

    It has none where the time is short of as many sizes, or where each process would compile anew.
    """
    share_s, is_script = run.share_s("throughput"), run.facts.script is not None
    together = None
    if not is_script:  # one start of it has one size
        together = _choose_plan(run, sizes, is_apart=False, budget_s=share_s)
        if together is None or run.environment.device.kind != "cpu" or run.spec.workload.compile:
            return together
    apart = _choose_plan(run, sizes, is_apart=True, budget_s=share_s)
    if together is None or apart is None:
        return together or apart
    is_enough = apart.sessions >= _LEAST_SESSIONS and len(apart.sizes) >= len(together.sizes)
    return apart if is_enough else together


def _choose_plan(
    run: Run, sizes: Collection[int], *, is_apart: bool, budget_s: float
) -> SessionPlan | None:
    kind = run.environment.device.kind
    start_s = max(_START_S[kind], run.start_s)
    compile_s = _SESSION_COMPILES_FRACTION * _estimate_compile_s(run)
    plan = choose_session_plan(
        sizes,
        read_probes(run.record.all(PROBES)),
        block_s=BLOCK_S[kind],
        budget_s=budget_s,
        start_s=0.0 if is_apart else start_s,
        size_start_s=compile_s + (start_s if is_apart else 0.0),
        must_keep=_list_kept(run),
        wanted_steps=_WANTED_STEPS if kind == "cpu" else 1,
    )
    return plan and plan._replace(is_apart=is_apart)


QUESTION = Question(
    name="throughput",
    keys=(TELEMETRY,),
    topics=(THROUGHPUT,),
    run=run_throughput,
    more=time_once_more,
    tell=tell_throughput,
    brief=brief_throughput,
)
#: What the sessions say beside the curve; nothing runs for it.
SPEED = Question(name="speed", tell=tell_speed)
