"""Make the recordings beside this file: one real run, and the same run disturbed in five ways.

Run: OMP_NUM_THREADS=1 python tests/recordings/record.py [--disturb], on an idle machine.

plain.json is real: environment, model file, memory probes and throughput sessions of
examples/digits.py on this CPU, by the tool's own workers, each size in a process of its own. Its
sessions time every multiple of 128, so that a replay may refine wherever it likes. The others are
plain.json with one change each:

    drift.json       thermal drift: session k takes 1 + 0.02·k times as long, the canary too
    bimodal.json     sessions 1, 4, 5 and 7 take 1.12 times as long, as processes of one machine
                     were reported to differ by 11 to 14 %; nothing else shows it
    throttled.json   in the last third of every session but the first, blocks take 1.4 times as long
                     and the counter of the thermal slowdown rises meanwhile
    outliers.json    in every session one block of each third of the sizes takes 5 times as long
    neighbour.json   from session 2 on others take 45 % of the processors: blocks take 1.2 to 1.8
                     times as long and the canary 1.5 times

Block edges and samples of the counters move along with the time that is added.
"""

import os
import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from advisor.device.data import Telemetry
from advisor.device.telemetry import sampled
from advisor.engine.record import Record
from advisor.engine.runner import Runner
from advisor.engine.spec import Limits, Spec
from advisor.engine.task import EnvironmentTask, InspectTask
from advisor.memory.data import PROBES, Probe
from advisor.memory.stage import run_memory
from advisor.questions import read_run
from advisor.throughput.data import TELEMETRY, ThroughputTask
from advisor.throughput.stage import split_by_size
from advisor.training.data import WorkloadSpec, parse_target
from tests.given import open_run

HERE = Path(__file__).resolve().parent
MODEL = "examples/digits.py"
#: Wide enough for the speed to level off within the dataset.
HIDDEN = "512"
MULTIPLE, SESSIONS, ROUNDS = 128, 8, 3
BLOCK_S, SAMPLE_S = 0.1, 0.1
#: Digits kept of seconds and counters: more would make the files larger and nothing truer.
DIGITS = 5

Span = tuple[float, float]
#: (session, start of the block over the session's length, the block) -> times its seconds.
Factor = Callable[[int, float, Span], float]


class Silent:
    """Tells nobody."""

    def stage(self, name: str, *, left_s: float | None) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""


def make_spec() -> Spec:
    """Return what is asked, of the recording and of a replay alike."""
    return Spec(
        workload=WorkloadSpec(target=MODEL, device="cpu", settings={"hidden": HIDDEN}),
        limits=Limits(batch_multiple=MULTIPLE, budget_s=300.0),
    )


def record_plain() -> Record:
    """Return the real run."""
    spec = make_spec()
    with Runner(parse_target(MODEL)) as runner:
        run = open_run(spec, runner=runner, progress=Silent(), save=lambda _: None)
        with run.completing():
            (environment,) = runner.run(EnvironmentTask(device="cpu"), timeout_s=300.0)
            run.keep_environment(environment)
            task = InspectTask(workload=spec.workload, batch_multiple=MULTIPLE)
            (facts,) = runner.run(task, timeout_s=300.0)
            run.keep_workload(facts)
            run_memory(run)
            largest = max(p.micro_batch_size for p in run.record.probes if p.outcome == "fit")
            for session in range(SESSIONS):
                with sampled(
                    environment.device, session=session, own_pid=os.getpid(), interval_s=SAMPLE_S
                ) as read:
                    task = ThroughputTask(
                        workload=spec.workload,
                        micro_batch_sizes=tuple(range(MULTIPLE, largest + 1, MULTIPLE)),
                        session=session,
                        block_s=BLOCK_S,
                        rounds=ROUNDS,
                        budget_s=300.0,
                    )
                    for each in split_by_size(task):
                        runner.run(each, timeout_s=300.0, on_result=partial(run.add, PROBES))
                    run.add(TELEMETRY, read())
                print(f"session {session} recorded", file=sys.stderr)
    return run.record


def disturb(
    record: Record,
    *,
    factor: Factor,
    canary: Callable[[int], float] = lambda _: 1.0,
    watch: Callable[[Telemetry, Telemetry], Telemetry] = lambda _, after: after,
) -> Record:
    """Return the record with blocks, canary and counters changed.

    Args:
        record: The real run.
        factor: Of each block's seconds.
        canary: Of a session's canary.
        watch: Changes the counters of a session, given as they were and with their times moved.
    """
    probes = {probe.session: [] for probe in record.probes if probe.stage == "throughput"}
    for probe in record.probes:
        if probe.stage == "throughput":
            probes[probe.session].append(probe)
    changed, telemetry = [], []
    for before in record.telemetry:
        moved, move = _slow_down(probes[before.session], factor)
        times = canary(before.session)
        changed += [
            msgspec.structs.replace(
                p, canary_times_s=tuple(_round(times * s) for s in p.canary_times_s)
            )
            for p in moved
        ]
        after = msgspec.structs.replace(before, at_s=tuple(_round(move(s)) for s in before.at_s))
        telemetry.append(watch(before, after))
    memory = [probe for probe in record.probes if probe.stage == "memory"]
    return msgspec.structs.replace(record, probes=(*memory, *changed), telemetry=tuple(telemetry))


def _slow_down(probes: list[Probe], factor: Factor) -> tuple[list[Probe], Callable[[float], float]]:
    """Return the probes of one session with slower blocks, and where a moment of it moves to."""
    spans = sorted(span for probe in probes for span in probe.block_spans_s)
    began_s, length_s = spans[0][0], spans[-1][1] - spans[0][0]
    factors = {
        span: factor(probes[0].session, (span[0] - began_s) / length_s, span) for span in spans
    }

    def move(at_s: float) -> float:
        added = ((f - 1.0) * min(max(at_s - s[0], 0.0), s[1] - s[0]) for s, f in factors.items())
        return at_s + sum(added)

    slowed = []
    for probe in probes:
        mine = [factors[span] for span in probe.block_spans_s]
        slowed.append(
            msgspec.structs.replace(
                probe,
                step_times_s=tuple(s * f for s, f in zip(probe.step_times_s, mine, strict=True)),
                micro_step_times_s=tuple(
                    s * f for s, f in zip(probe.micro_step_times_s, mine, strict=False)
                ),
                block_spans_s=tuple(
                    (_round(move(start)), _round(move(end))) for start, end in probe.block_spans_s
                ),
            )
        )
    return slowed, move


def make_drift(plain: Record) -> Record:
    """Return the run on a machine that grows slower from session to session."""
    return disturb(
        plain, factor=lambda session, *_: 1.0 + 0.02 * session, canary=lambda k: 1.0 + 0.02 * k
    )


def make_bimodal(plain: Record) -> Record:
    """Return the run on a machine with two speeds."""
    return disturb(plain, factor=lambda session, *_: 1.12 if session in {1, 4, 5, 7} else 1.0)


def make_throttled(plain: Record) -> Record:
    """Return the run on a machine that heat holds down towards the end of a session."""

    def is_hot(session: int, place: float) -> bool:
        return session > 0 and place > 2 / 3

    def watch(before: Telemetry, after: Telemetry) -> Telemetry:
        spans = sorted(
            span
            for probe in plain.probes
            if probe.stage == "throughput" and probe.session == before.session
            for span in probe.block_spans_s
        )
        began_s, length_s = spans[0][0], spans[-1][1] - spans[0][0]
        held_s, series = 0.0, [0.0]
        for index in range(1, len(before.at_s)):
            if is_hot(before.session, (before.at_s[index] - began_s) / length_s):
                held_s += after.at_s[index] - after.at_s[index - 1]
            series.append(_round(held_s))
        return msgspec.structs.replace(after, slowdown_s={"thermal": tuple(series)})

    return disturb(plain, factor=lambda k, at, _: 1.4 if is_hot(k, at) else 1.0, watch=watch)


def make_outliers(plain: Record) -> Record:
    """Return the run with one long block of a third of the sizes in each session."""
    draw = random.Random(4)
    long: set[Span] = set()
    for probe in plain.probes:
        if probe.stage == "throughput" and draw.random() < 1 / 3:
            long.add(draw.choice(probe.block_spans_s))
    return disturb(plain, factor=lambda _, __, span: 5.0 if span in long else 1.0)


def make_neighbour(plain: Record) -> Record:
    """Return the run beside a neighbour that comes after two sessions."""
    draw = random.Random(5)

    def watch(before: Telemetry, after: Telemetry) -> Telemetry:
        taken = 0.45 if before.session >= 2 else 0.02
        return msgspec.structs.replace(after, foreign_cpu_fraction=(taken,) * len(after.at_s))

    return disturb(
        plain,
        factor=lambda session, *_: draw.uniform(1.2, 1.8) if session >= 2 else 1.0,
        canary=lambda session: 1.5 if session >= 2 else 1.0,
        watch=watch,
    )


DISTURBED = {
    "drift": make_drift,
    "bimodal": make_bimodal,
    "throttled": make_throttled,
    "outliers": make_outliers,
    "neighbour": make_neighbour,
}


def shorten(record: Record) -> Record:
    """Return the record with short numbers, its clock starting at zero."""
    start = min(telemetry.at_s[0] for telemetry in record.telemetry)
    probes = tuple(
        msgspec.structs.replace(
            probe,
            block_spans_s=tuple(
                (_round(a - start), _round(b - start)) for a, b in probe.block_spans_s
            ),
            canary_times_s=tuple(map(_round, probe.canary_times_s)),
        )
        for probe in record.probes
    )
    telemetry = tuple(
        msgspec.structs.replace(
            each,
            at_s=tuple(_round(at_s - start) for at_s in each.at_s),
            foreign_cpu_fraction=tuple(map(_round, each.foreign_cpu_fraction)),
            energy_j=tuple(map(_round, each.energy_j)),
        )
        for each in record.telemetry
    )
    return msgspec.structs.replace(record, probes=probes, telemetry=telemetry)


def _round(value: float) -> float:
    return round(value, DIGITS)


def write(name: str, record: Record) -> None:
    """Write one recording; the seconds of steps with 7 significant digits."""
    probes = tuple(
        msgspec.structs.replace(
            probe,
            step_times_s=tuple(float(f"{s:.7g}") for s in probe.step_times_s),
            micro_step_times_s=tuple(float(f"{s:.7g}") for s in probe.micro_step_times_s),
        )
        for probe in record.probes
    )
    record = msgspec.structs.replace(record, probes=probes)
    (HERE / f"{name}.json").write_bytes(msgspec.json.encode(record) + b"\n")


def main() -> None:
    """Record (unless `--disturb` takes plain.json as it is), disturb, write."""
    if "--disturb" in sys.argv:
        plain = read_run(HERE / "plain.json")
    else:
        plain = shorten(record_plain())
        write("plain", plain)
    for name, make in DISTURBED.items():
        write(name, make(plain))


if __name__ == "__main__":
    main()
