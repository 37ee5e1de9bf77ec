"""What the probes of a run and its counters say in the gate's own words."""

from collections.abc import Sequence

from msgspec.structs import replace

from advisor.device.data import Telemetry
from advisor.engine.record import Record
from advisor.errors import UsageError
from advisor.gate.cause import HOLDERS
from advisor.gate.data import NEW, OCCASIONS, Occasion, Peak, Session, Setting
from advisor.memory.data import PROBES, Probe
from advisor.statistics import median
from advisor.throughput.blocks import measure_held_fraction, select_in_blocks
from advisor.throughput.data import TELEMETRY
from advisor.training.data import WorkloadSpec


def make_session(probe: Probe, telemetry: Telemetry | None) -> Session | None:
    """Return what a timed process showed; None where it timed nothing.

    On a CPU the seconds of a step are what a tenth of a block's steps stayed below, where that is
    known: neighbours slow steps, and none speeds one up.
    """
    if probe.outcome != "fit" or not probe.step_times_s:
        return None
    session = Session(
        number=probe.session,
        step_s=probe.calm_step_times_s,
        product_s=probe.canary_times_s,
        first_step_s=probe.first_step_s,
    )
    if telemetry is None:
        return session
    held = {cause: measure_held_fraction((probe,), (telemetry,), cause) for cause in HOLDERS}
    return replace(
        session,
        sm_clock_mhz=_find_median(probe, telemetry, telemetry.sm_clock_mhz) or None,
        foreign_cpu_fraction=_find_median(probe, telemetry, telemetry.foreign_cpu_fraction),
        # Counters have a grain: a clock that was held all along may seem held for longer.
        held_fraction={cause: min(1.0, share) for cause, share in held.items() if share},
    )


def _find_median(probe: Probe, telemetry: Telemetry, values: Sequence[float]) -> float | None:
    """Return the median of a counter during the blocks, None where it was not sampled."""
    seen = select_in_blocks((probe,), telemetry, values) if values else []
    return median(seen) if seen else None


def make_peak(probe: Probe) -> Peak | None:
    """Return the peak of tensors that a probe of memory showed, None where it showed none.

    What is less than a page, which nothing counts, is a byte.
    """
    fits, size = probe.outcome == "fit", probe.micro_batch_size
    peak_bytes = probe.peak_allocated_bytes or probe.peak_bytes if fits else None
    if peak_bytes is not None:
        return Peak(micro_batch_size=size, peak_bytes=max(1, peak_bytes))
    return Peak(micro_batch_size=size, peak_bytes=None) if probe.outcome == "oom" else None


def read_setting(workload: WorkloadSpec, record: Record, micro_batch_size: int) -> Setting:
    """Return what the figures of a command depend on."""
    assert record.environment is not None
    return Setting(
        target=workload.target,
        micro_batch_size=micro_batch_size,
        environment=record.environment,
        precision=workload.precision,
        compile=workload.compile,
        settings=workload.settings,
        arguments=() if workload.script is None else workload.script.arguments,
        ranks=workload.ranks,
    )


def choose_common_size(records: Sequence[Record]) -> int:
    """Return a batch that all files timed, a baseline's or a run's own first; else UsageError."""
    first, *others = map(_list_timed_sizes, records)
    for size in first:
        if all(size in sizes for sizes in others):
            return size
    raise UsageError(
        "the files have no batch in common that was timed in all",
        next_step="Pin one with --batch-multiple or BASE_BATCH_SIZE, and measure again.",
    )


def _list_timed_sizes(record: Record) -> tuple[int, ...]:
    """Return the sizes that a file has timed, the user's own first."""
    if record.kind != "run":
        return tuple(each.setting.micro_batch_size for each in _list_occasions(record))
    sizes = {
        probe.micro_batch_size
        for probe in record.all(PROBES)
        if probe.stage == "throughput" and probe.outcome == "fit" and probe.step_times_s
    }
    own = None if record.workload is None else record.workload.base_batch_size
    return tuple(sorted(sizes, key=lambda size: (size != own, -size)))


def read_occasions(record: Record, micro_batch_size: int) -> tuple[Occasion, ...]:
    """Return what a file holds of one size; UsageError where it did not time the size."""
    is_run = record.kind == "run"
    found = _read_run(record, micro_batch_size) if is_run else _list_occasions(record)
    if {each.setting.micro_batch_size for each in found} != {micro_batch_size}:
        raise UsageError(
            f"batch {micro_batch_size} was not timed in every file",
            next_step="Name one that was with --micro-batch-size.",
        )
    return found


def _list_occasions(record: Record) -> tuple[Occasion, ...]:
    """Return what a baseline holds, or the new side of a check; none of other kinds."""
    series = {"baseline": OCCASIONS, "check": NEW}.get(record.kind)
    return () if series is None else record.all(series)


def _read_run(record: Record, micro_batch_size: int) -> tuple[Occasion, ...]:
    """Return what a run of `probe` holds of one size; nothing where it did not time that."""
    probes, facts, command = record.all(PROBES), record.workload, record.command
    counters = {each.session: each for each in record.all(TELEMETRY)}
    timed = (
        make_session(probe, counters.get(probe.session))
        for probe in probes
        if probe.stage == "throughput" and probe.micro_batch_size == micro_batch_size
    )
    sessions = tuple(each for each in timed if each is not None)
    if not sessions or facts is None or record.environment is None:
        return ()
    workload = WorkloadSpec(
        target=facts.file,
        script=None if facts.script is None else facts.script.script,
        settings=command.settings,
        precision=command.precision,
        compile=command.compile,
    )
    # The count of a CPU's pages is no sure figure.
    has_peaks = record.environment.device.kind == "cuda"
    peaks = [make_peak(probe) for probe in probes if probe.stage == "memory" and has_peaks]
    occasion = Occasion(
        recorded_at=record.created_at,
        tool_version=record.tool_version,
        setting=read_setting(workload, record, micro_batch_size),
        sessions=sessions,
        peaks=tuple(peak for peak in peaks if peak is not None),
    )
    return (occasion,)
