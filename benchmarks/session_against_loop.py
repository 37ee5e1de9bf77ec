"""The tool's own throughput sessions against the loop written by hand, process against process.

one model:   session | loop | long session | session | loop | session | loop ...

A session is what `bsadvisor probe` runs: a fresh worker through the Runner, its counters watched
from outside. The loop (`loop_by_hand.py`) is a fresh process as well. The long session has one
block of seconds, for energy: many drivers give as power the mean of the last second, so power says
nothing of a block shorter than that.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from energy_against_power import EnergyComparison, compare_energy, compare_neighbours

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from advisor.device.data import DeviceFacts, Environment, Telemetry
from advisor.engine.runner import COLD_START_S, Runner
from advisor.engine.task import EnvironmentTask
from advisor.errors import AdvisorError, InconclusiveError
from advisor.memory.data import Probe
from advisor.throughput.conclude import conclude_throughput
from advisor.throughput.data import ThroughputConclusion, ThroughputTask
from advisor.throughput.stage import BLOCK_S
from advisor.training.data import WorkloadSpec, parse_target

LOOP_PATH = Path(__file__).resolve().parent / "loop_by_hand.py"
#: A process that takes longer hangs.
TIMEOUT_S = 90.0
#: What a process may still take when the time is up: its worker is killed after that.
LEAST_TIMEOUT_S = 10.0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How long each measurement takes.

    Attributes:
        block_s: Length of a block of both; None takes the tool's own.
        rounds: Blocks of a session.
        loop_blocks: Blocks of the loop.
        long_block_s: The one block of the long session.
        session_budget_s: As a session is given; a tenth of it may pass until a GPU has settled.
        least_pairs: Sessions, each with a loop, even where they outlast the model's part.
        most_pairs: And as far as that part lasts.
    """

    block_s: float | None = None
    rounds: int = 5
    loop_blocks: int = 7
    long_block_s: float = 3.0
    session_budget_s: float = 20.0
    least_pairs: int = 2
    most_pairs: int = 4


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What one session of the tool left behind."""

    probe: Probe
    telemetry: Telemetry


def read_environment(device: str) -> Environment:
    """Return the device and the software."""
    with Runner(None) as runner:
        (environment,) = runner.run(EnvironmentTask(device=device), timeout_s=COLD_START_S)
    assert isinstance(environment, Environment)
    return environment


def run_session(
    runner: Runner, device: DeviceFacts, task: ThroughputTask, *, timeout_s: float
) -> Session:
    """Return what the tool's session at one size showed.

    Raises:
        InconclusiveError: The size does not fit.
    """
    with runner.watched(device, session=task.session) as read_telemetry:
        (probe,) = runner.run(task, timeout_s=timeout_s)
        telemetry = read_telemetry()
    assert isinstance(probe, Probe)
    if probe.outcome != "fit":
        raise InconclusiveError(f"batch {probe.micro_batch_size}: {probe.outcome}, {probe.message}")
    return Session(probe=probe, telemetry=telemetry)


def run_loop(
    path: Path, size: int, device: str, *, block_s: float, blocks: int, timeout_s: float
) -> float:
    """Return the samples/s of the loop written by hand, in a fresh process.

    Raises:
        InconclusiveError: It failed, or did not end in time.
    """
    command = [sys.executable, str(LOOP_PATH), str(path), str(size), "--device", device]
    command += ["--block", str(block_s), "--blocks", str(blocks)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=timeout_s
        )
    except subprocess.TimeoutExpired as error:
        raise InconclusiveError(f"the loop did not end within {timeout_s:.0f} s") from error
    if done.returncode != 0:
        last = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise InconclusiveError(f"the loop ended with {done.returncode}: {last[:300]}")
    times_s = json.loads(done.stdout.splitlines()[-1])["step_times_s"]
    return size / statistics.median(times_s)


def compare_model(
    path: Path,
    size: int,
    environment: Environment,
    *,
    part_ends_s: float,
    deadline_s: float,
    plan: Plan | None = None,
) -> dict[str, Any]:
    """Return the figures of one model at one batch size, of as many sessions as the time lasts.

    Args:
        path: The model file.
        size: Micro-batch size in samples.
        environment: Of the device to run on.
        part_ends_s: Until when more pairs than the least are run, by the monotonic clock.
        deadline_s: Nothing that would outlast it is begun once there is a pair; likewise.
        plan: How long each measurement takes.
    """
    plan = plan or Plan()
    with Runner(parse_target(str(path))) as runner:
        turns = _Turns(runner, path, size, environment.device, plan, deadline_s)
        turns.run_pair()
        try:
            _run_rest(turns, plan, part_ends_s=part_ends_s, deadline_s=deadline_s)
        except AdvisorError as error:  # the first pair's figures stand
            return turns.make_row() | {"cut_short_by": error.message}
    return turns.make_row()


def _run_rest(turns: "_Turns", plan: Plan, *, part_ends_s: float, deadline_s: float) -> None:
    if turns.has_time(deadline_s):
        turns.run_long_session()
    for number in range(1, plan.most_pairs):
        if turns.has_time(deadline_s if number < plan.least_pairs else part_ends_s):
            turns.run_pair()


class _Turns:
    """The sessions and loops of one model, in turns."""

    def __init__(
        self,
        runner: Runner,
        path: Path,
        size: int,
        device: DeviceFacts,
        plan: Plan,
        deadline_s: float,
    ) -> None:
        self._runner = runner
        self._path = path
        self._size = size
        self._device = device
        self._plan = plan
        self._deadline_s = deadline_s
        self._block_s = plan.block_s or BLOCK_S[device.kind]
        self._sessions: list[Session] = []
        self._loops: list[float] = []
        self._long: Session | None = None
        self._pair_s = 0.0

    def has_time(self, ends_s: float) -> bool:
        """Return whether another pair would end by then, were it like the last."""
        return time.monotonic() + self._pair_s <= ends_s

    def run_long_session(self) -> None:
        """Run the session with one long block."""
        self._long = self._run_session(block_s=self._plan.long_block_s, rounds=1)

    def run_pair(self) -> None:
        """Run a session, and the loop after it."""
        began_s = time.monotonic()
        session = self._run_session(block_s=self._block_s, rounds=self._plan.rounds)
        loop = run_loop(
            self._path,
            self._size,
            self._device_name,
            block_s=self._block_s,
            blocks=self._plan.loop_blocks,
            timeout_s=self._timeout_s,
        )
        self._sessions.append(session)
        self._loops.append(loop)
        self._pair_s = time.monotonic() - began_s

    def make_row(self) -> dict[str, Any]:
        """Return the figures of all sessions and loops."""
        each = [_conclude([session]) for session in self._sessions]
        together = _conclude(self._sessions)
        speeds = [(_read_speed(one), loop) for one, loop in zip(each, self._loops, strict=True)]
        pairs = [(tool, loop) for tool, loop in speeds if tool is not None]
        ratios = compare_neighbours([tool for tool, _ in pairs], [loop for _, loop in pairs])
        return {
            "micro_batch_size": self._size,
            "tool_samples_per_s": _read_speed(together),
            "loop_samples_per_s": statistics.median(self._loops),
            "ratios": ratios,
            "median_ratio": statistics.median(ratios) if ratios else None,
            "issuing_fraction": _measure_issuing_fraction(self._sessions),
            "is_steady": [session.probe.is_steady for session in self._sessions],
            "disturbances": together.disturbances,
            "energy": msgspec.structs.asdict(self._compare_energy()),
            "energy_per_sample_of_short_blocks_j": _read_energy(together),
        }

    def _run_session(self, *, block_s: float, rounds: int) -> Session:
        task = ThroughputTask(
            workload=WorkloadSpec(target=str(self._path), device=self._device_name),
            micro_batch_sizes=(self._size,),
            session=len(self._sessions) + (self._long is not None),
            block_s=block_s,
            rounds=rounds,
            budget_s=self._plan.session_budget_s,
        )
        return run_session(self._runner, self._device, task, timeout_s=self._timeout_s)

    @property
    def _timeout_s(self) -> float:
        return min(TIMEOUT_S, max(LEAST_TIMEOUT_S, self._deadline_s - time.monotonic()))

    @property
    def _device_name(self) -> str:
        device = self._device
        return f"{device.kind}:{device.index}" if device.kind == "cuda" else device.kind

    def _compare_energy(self) -> EnergyComparison:
        if self._long is None:
            return EnergyComparison(missing_because="no long session was run")
        return compare_energy(self._long.probe, self._long.telemetry)


def _conclude(sessions: Sequence[Session]) -> ThroughputConclusion:
    return conclude_throughput(
        [session.probe for session in sessions],
        largest_micro_batch_size=None,
        range_end="cap",
        telemetry=[session.telemetry for session in sessions],
    )


def _read_speed(conclusion: ThroughputConclusion) -> float | None:
    """Return the tool's samples/s; None where every block was discarded."""
    return conclusion.points[0].samples_per_s.point if conclusion.points else None


def _read_energy(conclusion: ThroughputConclusion) -> float | None:
    energy = conclusion.points[0].energy_per_sample_j if conclusion.points else None
    return None if energy is None else energy.point


def _measure_issuing_fraction(sessions: Sequence[Session]) -> float | None:
    """Return the share of a step in which the host issued work; None on a CPU."""
    fractions = [
        statistics.median(session.probe.enqueue_times_s)
        / statistics.median(session.probe.step_times_s)
        for session in sessions
        if session.probe.enqueue_times_s
    ]
    return statistics.median(fractions) if fractions else None
