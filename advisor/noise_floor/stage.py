"""The same model timed again and again: how far this machine's own sessions differ."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec

from advisor import __version__
from advisor.engine.commands import SelfComparisonSpec
from advisor.engine.opening import EnvironmentTask, InspectTask
from advisor.engine.progress import Progress
from advisor.engine.recording import Recording
from advisor.engine.runner import COLD_START_S, Runner, TaskRunner, WorkerTimeoutError
from advisor.errors import InconclusiveError
from advisor.noise_floor.plan import compare_with_itself
from advisor.noise_floor.record import SelfComparisonCommand, SelfComparisonRecord
from advisor.throughput.data import ThroughputTask
from advisor.throughput.stage import BLOCK_S
from advisor.training.data import WorkloadFacts, parse_target

#: Sessions: fewer tell no spread, more tell nothing new.
_LEAST_SESSIONS, _MOST_SESSIONS = 4, 20
#: Timed blocks of each session.
_ROUNDS = 3
#: The batch where neither the user nor the model file names one.
_USUAL_BATCH = 32


def _empty_record(spec: SelfComparisonSpec, argv: Sequence[str]) -> SelfComparisonRecord:
    return SelfComparisonRecord(
        tool_version=__version__,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        complete=False,
        command=SelfComparisonCommand(
            argv=tuple(argv),
            seed=spec.workload.seed,
            precision=spec.workload.precision,
            compile=spec.workload.compile,
            settings=spec.workload.settings,
            micro_batch_size=spec.micro_batch_size,
            budget_s=spec.budget_s,
        ),
    )


def run_self_comparison(
    spec: SelfComparisonSpec,
    *,
    argv: Sequence[str],
    progress: Progress,
    save: Callable[[SelfComparisonRecord], None],
) -> SelfComparisonRecord:
    """Return the complete record of sessions of the same training.

    Args:
        spec: What is asked.
        argv: The command line, for the record.
        progress: Told what runs.
        save: Called with the record so far after each session.

    Raises:
        InconclusiveError: The budget ended before four sessions were timed.
        AdvisorError: What ended it; the record so far was saved, marked incomplete.
    """
    with Runner(parse_target(spec.workload.target)) as runner:
        run = Recording(_empty_record(spec, argv), spec.budget_s, save)
        with run.completing():
            _inspect(run, spec, runner, progress)
            _run_sessions(run, spec, runner, progress)
            _refuse_few_sessions(run.record)
        return run.record


def _inspect(
    run: Recording[SelfComparisonRecord],
    spec: SelfComparisonSpec,
    runner: TaskRunner,
    progress: Progress,
) -> None:
    """Keep the environment and, where that leaves time, the workload and the batch to time."""
    workload = spec.workload
    progress.stage("starting", left_s=run.left_s)
    (seen,) = runner.run(EnvironmentTask(device=workload.device), timeout_s=COLD_START_S)
    run.keep(environment=seen)
    if run.is_spent:
        return
    progress.stage("model file", left_s=run.left_s)
    (found,) = runner.run(InspectTask(workload=workload), timeout_s=run.left_s)
    facts = found
    size = spec.micro_batch_size or _choose_size(facts)
    command = msgspec.structs.replace(run.record.command, micro_batch_size=size)
    run.keep(workload=facts, command=command)


def _run_sessions(
    run: Recording[SelfComparisonRecord],
    spec: SelfComparisonSpec,
    runner: TaskRunner,
    progress: Progress,
) -> None:
    """Time one session after another, and keep each, as long as the budget lasts.

    A session that takes longer than what is left of it is dropped; where it is the first, the model
    may hang, and that is told.
    """
    for session in range(_MOST_SESSIONS):
        if run.is_spent:
            return
        progress.stage(f"session {session + 1} of {_MOST_SESSIONS}", left_s=run.left_s)
        try:
            _run_session(run, spec, runner, session)
        except WorkerTimeoutError:
            if not run.record.probes:
                raise
            progress.note("the last session took longer than the time left, and does not count")
            return


def _run_session(
    run: Recording[SelfComparisonRecord], spec: SelfComparisonSpec, runner: TaskRunner, session: int
) -> None:
    record, left_s = run.record, run.left_s
    assert record.environment is not None
    assert record.command.micro_batch_size is not None
    task = ThroughputTask(
        workload=spec.workload,
        micro_batch_sizes=(record.command.micro_batch_size,),
        session=session,
        block_s=BLOCK_S[record.environment.device.kind],
        rounds=_ROUNDS,
        budget_s=left_s,
    )
    with runner.watched(record.environment.device, session=session) as read_telemetry:
        results = runner.run(task, timeout_s=left_s)
        telemetry = read_telemetry()
    probes = tuple(probe for probe in results)
    run.keep(probes=(*record.probes, *probes), telemetry=(*record.telemetry, telemetry))


def _refuse_few_sessions(record: SelfComparisonRecord) -> None:
    comparison = compare_with_itself(record.probes, record.telemetry, record.environment)
    if comparison is None or comparison.sessions < _LEAST_SESSIONS:
        raise InconclusiveError(
            f"fewer than {_LEAST_SESSIONS} sessions were timed",
            next_step="Raise --budget, or give a smaller --micro-batch-size.",
        )


def _choose_size(facts: WorkloadFacts) -> int:
    size = max(facts.base_batch_size or _USUAL_BATCH, facts.min_micro_batch_size)
    return size if facts.dataset_size is None else min(size, facts.dataset_size)
