"""The same model timed again and again: how far this machine's own sessions differ."""

import time
from typing import cast

import msgspec

from advisor.analysis.self_comparison import compare_with_itself
from advisor.conclusions import SelfComparison
from advisor.errors import InconclusiveError
from advisor.measurements import Environment, Probe, Telemetry, WorkloadFacts
from advisor.probe.progress import Progress
from advisor.probe.runner import COLD_START_S, Runner
from advisor.session.throughput import BLOCK_S
from advisor.spec import EnvironmentTask, InspectTask, ThroughputTask, WorkloadSpec, parse_target

#: Sessions: fewer tell no spread, more tell nothing new.
_LEAST_SESSIONS, _MOST_SESSIONS = 4, 20
#: Timed blocks of each session.
_ROUNDS = 3
#: The batch where neither the user nor the model file names one.
_USUAL_BATCH = 32


class SelfComparisonRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The JSON document of `bsadvisor doctor --aa`."""

    environment: Environment
    workload: WorkloadFacts
    probes: tuple[Probe, ...]
    telemetry: tuple[Telemetry, ...]
    derived: SelfComparison


def run_self_comparison(
    workload: WorkloadSpec, *, micro_batch_size: int | None, budget_s: float, progress: Progress
) -> SelfComparisonRecord:
    """Return what sessions of the same training showed.

    Args:
        workload: The model file.
        micro_batch_size: In samples; None takes the base batch, or 32, and no more than the
            dataset has.
        budget_s: Wall clock after which no session is started.
        progress: Told what runs.

    Raises:
        InconclusiveError: The budget ended before four sessions were timed.
    """
    started = time.monotonic()
    with Runner(parse_target(workload.target)) as runner:
        progress.stage("starting", left_s=budget_s)
        (seen,) = runner.run(EnvironmentTask(device=workload.device), timeout_s=COLD_START_S)
        (found,) = runner.run(InspectTask(workload=workload), timeout_s=COLD_START_S)
        environment, facts = cast("Environment", seen), cast("WorkloadFacts", found)
        probes: list[Probe] = []
        telemetry: list[Telemetry] = []
        for session in range(_MOST_SESSIONS):
            left_s = budget_s - (time.monotonic() - started)
            if left_s <= 0.0:
                break
            progress.stage(f"session {session + 1} of {_MOST_SESSIONS}", left_s=left_s)
            task = ThroughputTask(
                workload=workload,
                micro_batch_sizes=(micro_batch_size or _choose_size(facts),),
                session=session,
                block_s=BLOCK_S[environment.device.kind],
                rounds=_ROUNDS,
                budget_s=left_s,
            )
            with runner.watched(environment.device, session=session) as read_telemetry:
                results = runner.run(task, timeout_s=COLD_START_S + left_s)
                telemetry.append(read_telemetry())
            probes += [cast("Probe", probe) for probe in results]
    comparison = compare_with_itself(probes, telemetry, environment)
    if comparison is None or comparison.sessions < _LEAST_SESSIONS:
        raise InconclusiveError(
            f"fewer than {_LEAST_SESSIONS} sessions were timed",
            next_step="Raise --budget, or give a smaller --micro-batch-size.",
        )
    return SelfComparisonRecord(
        environment=environment,
        workload=facts,
        probes=tuple(probes),
        telemetry=tuple(telemetry),
        derived=comparison,
    )


def _choose_size(facts: WorkloadFacts) -> int:
    size = max(facts.base_batch_size or _USUAL_BATCH, facts.min_micro_batch_size)
    return size if facts.dataset_size is None else min(size, facts.dataset_size)
