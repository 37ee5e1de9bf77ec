"""Sessions of one revision or two, each in a process of its own, and what is exact beside them."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

from msgspec.structs import replace

from advisor import __version__
from advisor.engine.ends import WorkerTimeoutError
from advisor.engine.question import Kind, Question
from advisor.engine.record import Conclusions, Series, Slot
from advisor.engine.run import Run
from advisor.errors import InconclusiveError, NoBaselineError
from advisor.gate import store
from advisor.gate.data import (
    GATES_STACK,
    IN_TURNS,
    KNOWN_SPREAD,
    NEW,
    OCCASIONS,
    OLD,
    OLD_NAME,
    POLICY,
    CountTask,
    Occasion,
    Peak,
    Session,
    Side,
    merge,
)
from advisor.gate.plan import COMPARISON, find_largest_size, is_decided
from advisor.gate.reading import make_peak, make_session, read_setting
from advisor.gate.setting import list_stack
from advisor.gate.tell import draw_up_screen, head_comparison, tell_comparison
from advisor.gate.tell_baseline import head_baseline, tell_baseline
from advisor.gate.verdict import LOOKS
from advisor.memory.data import MemoryTask
from advisor.throughput.stage import make_task

#: Timed blocks of a session.
_ROUNDS = 3
#: The second size at which memory is measured, over the pinned one.
_LARGER = 2


#: What only the command that runs knows.
ASKED = Slot("asked", store.Asked)


def _read_asked(run: Run) -> tuple[store.Asked, int]:
    """Return what is asked, and the batch that is timed."""
    asked = run.held(ASKED) or store.Asked()
    return asked, asked.micro_batch_size or run.facts.usual_batch_size


def record_baseline(run: Run) -> None:
    """Keep an occasion of sessions, spread over the time asked for."""
    asked, size = _read_asked(run)
    setting = read_setting(run.spec.workload, run.record, size)
    before = store.find(asked, setting) or () if asked.adds else ()
    if before and list_stack(before[0].setting) != list_stack(setting):
        before = ()
    _record(run, OCCASIONS, asked, size, before)


def load_baseline(run: Run) -> None:
    """Take the baseline of this device and training as the old side, or raise NoBaselineError."""
    asked, size = _read_asked(run)
    if asked.old is not None:
        return
    setting = read_setting(run.spec.workload, run.record, size)
    found = store.find(asked, setting)
    run.set(KNOWN_SPREAD, store.find_spread(asked, setting))
    if found is not None:
        run.replace(OLD, found)
    elif not asked.records_missing:
        nearest = [f"{each.name} {each.old}" for each in store.find_nearest(asked, setting)]
        there = f"; the nearest is of {', '.join(nearest)}" if nearest else ""
        raise NoBaselineError(
            f"there is no baseline of {setting.target} at batch {setting.micro_batch_size} on "
            f"{setting.environment.device.name} in {asked.folder}{there}",
            next_step=f"Record one: bsadvisor baseline record {setting.target}; or compare two "
            "revisions on this machine: --against REF.",
        )


def run_check(run: Run) -> None:
    """Measure the new side, and with `--against` the old one in turns, until all is decided."""
    known, (asked, size) = run.record.all(OLD), _read_asked(run)
    if not known and asked.old is None:
        _record(run, NEW, asked, size)
        return
    size = known[0].setting.micro_batch_size if known else size
    sides = {NEW: asked.new or Side(workload=run.spec.workload)}
    if asked.old is not None:
        sides[OLD] = asked.old
        run.set(IN_TURNS, True)
    larger = find_largest_size(merge(known)) if known else None
    for series, side in reversed(sides.items()):
        run.progress.stage(f"memory and operators, {series.name} side", left_s=run.left_s)
        run.replace(series, (_open_occasion(run, side, size, larger=larger),))
    _take_turns(run, sides, size)


def _take_turns(run: Run, sides: Mapping[Series[Occasion], Side], size: int) -> None:
    number = 0
    for turn in range(LOOKS[-1]):
        # A B B A A B ..., so that a drift falls on both alike.
        for series in sides if turn % 2 else reversed([*sides]):
            number += 1
            what = f"session {number}, {series.name} side"
            session = _time_session(run, sides[series], size, number, what)
            if session is None:
                found = run.of(COMPARISON)
                if found is None or min(found.sessions) < 2:
                    raise InconclusiveError(
                        "fewer than two sessions a side were timed", next_step="Raise --budget."
                    )
                return
            run.replace(series, tuple(_add(each, session) for each in run.record.all(series)))
        found = run.of(COMPARISON)
        if turn + 1 in LOOKS and found is not None and is_decided(found):
            return


def _record(
    run: Run,
    series: Series[Occasion],
    asked: store.Asked,
    size: int,
    before: tuple[Occasion, ...] = (),
) -> None:
    """Keep an occasion after those before: of as many sessions, spread over the time asked for."""
    began, side = time.monotonic(), asked.new or Side(workload=run.spec.workload)
    occasion = _open_occasion(run, side, size)
    for number in range(asked.sessions):
        turn_s = began + number * asked.over_s / max(1, asked.sessions - 1)
        while (left_s := turn_s - time.monotonic()) > 0.0:
            run.progress.stage("waiting for the next session's turn", left_s=left_s)
            time.sleep(min(left_s, 1.0))
        what = f"session {number + 1} of {asked.sessions}"
        session = _time_session(run, side, size, number, what)
        if session is None:
            break
        occasion = _add(occasion, session)
        run.replace(series, (*before, occasion))
    if len(occasion.sessions) < 2:
        raise InconclusiveError(
            "fewer than two sessions were timed",
            next_step="Raise --budget, or pin a smaller batch.",
        )


def _open_occasion(run: Run, side: Side, size: int, *, larger: int | None = None) -> Occasion:
    """Return an occasion with what is exact: memory at two sizes, and the operators of a step."""
    sizes = dict.fromkeys((size, larger or _LARGER * size))
    is_cpu = run.environment.device.kind == "cpu"
    counts = {}
    for each in sizes if is_cpu else (size,):
        task = CountTask(workload=side.workload, micro_batch_size=each)
        counts[each] = next(iter(run.runner.run(task, timeout_s=run.left_s)), None)
    if is_cpu:
        peaks = [
            Peak(micro_batch_size=each, peak_bytes=count.peak_bytes)
            for each, count in counts.items()
            if count is not None and count.peak_bytes is not None
        ]
    else:
        # On the first samples, which both sides have.
        measure = partial(MemoryTask, workload=side.workload, capacity_bytes=run.capacity_bytes)
        tasks = [measure(micro_batch_size=each) for each in sizes]
        probes = [probe for task in tasks for probe in run.runner.run(task, timeout_s=run.left_s)]
        peaks = [peak for each in probes if (peak := make_peak(each)) is not None]
    own = counts[size]
    return Occasion(
        recorded_at=datetime.now(UTC).isoformat(timespec="seconds"),
        tool_version=__version__,
        setting=read_setting(side.workload, run.record, size),
        revision=side.revision,
        peaks=tuple(peaks),
        operators=None if own is None else own.operators,
    )


def _add(occasion: Occasion, session: Session) -> Occasion:
    return replace(occasion, sessions=(*occasion.sessions, session))


def _time_session(run: Run, side: Side, size: int, number: int, what: str) -> Session | None:
    """Return what one process showed; None where the time ended it."""
    run.progress.stage(what, left_s=run.left_s)
    if run.is_spent:
        return None
    task = make_task(
        run, workload=side.workload, micro_batch_sizes=(size,), session=number, rounds=_ROUNDS
    )
    with run.runner.watched(run.environment.device, session=number) as read_telemetry:
        try:
            (probe,) = run.runner.run(task, timeout_s=run.left_s)
        except WorkerTimeoutError:
            if number == 0:
                raise
            return None
        return make_session(probe, read_telemetry())


BASELINE = Kind(
    name="baseline",
    noun="baseline",
    command="baseline record",
    questions=(
        Question(name="baseline", keys=(OCCASIONS,), run=record_baseline, tell=tell_baseline),
    ),
    headline=head_baseline,
    is_worth_telling=lambda record, _: bool(record.all(OCCASIONS)),
    answers_in_rows=True,
)


CHECK = Kind(
    name="check",
    noun="check",
    command="check",
    questions=(
        Question(
            name="check",
            keys=(OLD, NEW, OLD_NAME, POLICY, GATES_STACK, IN_TURNS, KNOWN_SPREAD),
            topics=(COMPARISON,),
            check=load_baseline,
            run=run_check,
            tell=tell_comparison,
        ),
    ),
    headline=head_comparison,
    screen=draw_up_screen,
    is_worth_telling=lambda record, _: bool(
        (found := Conclusions(record).of(COMPARISON)) and found.verdicts
    ),
)
