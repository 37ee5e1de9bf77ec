"""The memory stage: probe after probe until the search is content."""

import signal
import time

from msgspec.structs import replace

from advisor.engine.budget import PROBE_OF_LEFT, PROBE_OF_MEMORY, TRACE_OF_MEMORY
from advisor.engine.ends import WorkerDeathError, WorkerTimeoutError
from advisor.engine.run import Run
from advisor.errors import DeviceError, SampleError, UsageError, WorkloadError
from advisor.memory.data import PROBES, MemoryTask, Outcome, Probe
from advisor.memory.failures import judge_failure
from advisor.memory.plan import choose_bounds, choose_next_micro_batch_size, narrow_bounds
from advisor.memory.search import SearchBounds
from advisor.memory.surroundings import (
    can_spill,
    explain_state_size,
    find_spill,
    judge_surroundings,
)
from advisor.memory.trace_stage import keep_prediction, simulate_peak
from advisor.predict.data import PREDICTED_MEMORY

#: Steps that took less than this were not timed well enough to be multiplied.
_SHORTEST_STEPS_S = 0.005
#: A probe that the time left makes smaller than asked must still grow by this to tell anything.
_LEAST_GROWTH = 1.5


def measure_base(run: Run) -> float:
    """Probe the user's own batch, or the smallest where it does not fit, unless one has run.

    Returns the seconds of a step of the user's own batch; without one, of the smallest. Raises
    DeviceError where not even that fits, WorkloadError where the model fails otherwise.
    """
    bounds = _choose_bounds(run)
    _refuse_empty_range(run, bounds)
    while not (fits := [probe for probe in _list_probes(run) if probe.outcome == "fit"]):
        size = choose_next_micro_batch_size(_list_probes(run), bounds)
        if size is None:
            raise _refuse_all(run, bounds)
        _try_size(run, size, bounds, run.left_s)
    size = fits[0].micro_batch_size
    # A step of a larger batch takes no less: on a busy machine it bounds what was measured.
    step_s = min(min(probe.step_times_s) for probe in fits if probe.micro_batch_size >= size)
    return step_s * (run.facts.base_batch_size or size) / size


def run_memory(run: Run) -> None:
    """Find the largest micro-batch under the limit, from the user's own batch on."""
    measure_base(run)
    bounds, deadline = _choose_bounds(run), time.monotonic() + run.share_s("memory")
    while (size := _choose_size(run, bounds, deadline)) is not None:
        left_s = deadline - time.monotonic() - run.start_s
        if not _try_size(run, size, bounds, PROBE_OF_MEMORY * left_s):
            run.progress.note("memory: its time is spent; the search goes on if some is left")
            break


def search_on(run: Run) -> bool:
    """Try the next size where the search ended for its time; return whether it did."""
    bounds, prediction = _choose_bounds(run), run.record.get(PREDICTED_MEMORY)
    size = choose_next_micro_batch_size(_list_probes(run), bounds, prediction)
    left_s = PROBE_OF_LEFT * run.unspent_s - run.start_s
    return size is not None and _try_size(run, size, bounds, left_s)


def _choose_bounds(run: Run) -> SearchBounds:
    return choose_bounds(run.facts, run.spec.limits, run.capacity_bytes)


def _list_probes(run: Run) -> list[Probe]:
    return [probe for probe in run.record.all(PROBES) if probe.stage == "memory"]


def _try_size(run: Run, size: int, bounds: SearchBounds, steps_s: float) -> bool:
    """Probe the size, or a smaller one whose steps take less; return whether there is one."""
    history = _list_probes(run)
    affordable = _choose_affordable(size, history, narrow_bounds(bounds, history), steps_s)
    if affordable is None:
        return False
    run.progress.stage(f"memory: batch {affordable}", left_s=run.left_s)
    probe = _probe(run, affordable, history)
    run.add(PROBES, probe)
    if probe.outcome == "fit":
        simulate_peak(run, affordable)
    _refuse_leak(run, probe)
    if probe.outcome == "timeout":
        run.progress.note(f"memory: batch {affordable} took too long")
    if probe.outcome == "refused":
        run.progress.note(f"memory: batch {affordable} does not run: {probe.message}")
    return True


def _choose_size(run: Run, bounds: SearchBounds, deadline: float) -> int | None:
    """Return the size to probe next; traces the model where the first does not suffice."""
    history = _list_probes(run)
    size = choose_next_micro_batch_size(history, bounds, run.record.get(PREDICTED_MEMORY))
    is_first = [probe.outcome for probe in history if probe.outcome == "fit"] == ["fit"]
    if (
        not is_first
        or history[-1].outcome != "fit"
        or size is None
        or size >= bounds.largest_allowed
        or run.facts.is_step_only
        or run.facts.script is not None
    ):
        return size
    run.progress.stage("memory: trace", left_s=run.left_s)
    most_s = TRACE_OF_MEMORY * (deadline - time.monotonic())
    why = keep_prediction(run, most_s)
    simulate_peak(run, history[-1].micro_batch_size)
    if why is not None:
        run.progress.note(f"memory: no trace, so the search goes by its probes alone ({why})")
    return choose_next_micro_batch_size(history, bounds, run.record.get(PREDICTED_MEMORY))


def _choose_affordable(
    size: int, history: list[Probe], bounds: SearchBounds, steps_s: float
) -> int | None:
    """Return the size, a smaller one where its steps would outlast the time, or None."""
    ran = [probe for probe in history if probe.outcome == "fit"]
    if not ran:
        return size
    largest = max(ran, key=lambda probe: probe.micro_batch_size)
    step_s = min(largest.step_times_s)  # the first step also warms up, or compiles
    left_s = max(0.0, steps_s - (largest.step_times_s[0] - step_s))
    # In proportion, the steps of a larger batch are never taken to cost too little.
    most = largest.micro_batch_size * left_s / max(largest.steps * step_s, _SHORTEST_STEPS_S)
    if size <= most:
        return size
    smaller = int(most) // bounds.batch_multiple * bounds.batch_multiple
    return smaller if smaller >= _LEAST_GROWTH * largest.micro_batch_size else None


def _probe(run: Run, size: int, history: list[Probe]) -> Probe:
    """Return the probe of a size; `spill` where it ran, but not in the memory it was meant to."""
    task = MemoryTask(
        workload=run.spec.workload,
        micro_batch_size=size,
        capacity_bytes=run.capacity_bytes,
        largest_samples=run.facts.largest_samples,
    )
    try:
        probe = _run_task(run, task)
    except WorkerDeathError as death:
        probe = _judge_death(run, task, death)
    except WorkerTimeoutError as error:
        if not any(probe.outcome == "fit" for probe in history):
            raise
        probe = _fail(task, "timeout", error.message)
    except WorkloadError as error:
        if isinstance(error, SampleError) or not any(p.outcome == "fit" for p in history):
            raise
        is_larger = any(p.outcome == "fit" and p.micro_batch_size < size for p in history)
        outcome = judge_failure(error.message) if is_larger else "refused"
        probe = _fail(task, outcome, error.message)
    if probe.outcome == "error":
        probe = _judge_early_end(run, probe, history)
    why = find_spill(probe, history, timed=can_spill(run.environment))
    if why is not None:
        probe = replace(probe, outcome="spill", message=why)
    return replace(probe, session=len(history))


def _run_task(run: Run, task: MemoryTask) -> Probe:
    started = time.monotonic()
    (probe,) = run.runner.run(task, timeout_s=run.left_s)
    start_s = time.monotonic() - started - sum(probe.step_times_s)
    run.start_s = max(0.0, min(start_s, run.start_s or start_s))
    return probe


def _judge_death(run: Run, task: MemoryTask, death: WorkerDeathError) -> Probe:
    """Return an out-of-memory probe where the kernel or a failed allocation ended the worker.

    A library that does not check an allocation crashes under the limit, but so does a broken one:
    the crash counts as memory only where it happens twice, and not without the limit.
    """
    if death.code == -signal.SIGSEGV:
        try:
            return _run_task(run, task)
        except WorkerDeathError as again:
            unlimited = replace(task, capacity_bytes=None)
            probe = _run_task(run, unlimited)  # raises where the model is broken
            return replace(probe, outcome="oom", steps=0, message=again.message)
    ran = any(probe.outcome == "fit" for probe in run.record.all(PROBES))
    is_smallest = task.micro_batch_size <= run.facts.min_micro_batch_size
    if death.code == -signal.SIGKILL and (ran or not is_smallest):
        return _fail(task, "oom", death.message)
    raise death


def _judge_early_end(run: Run, probe: Probe, history: list[Probe]) -> Probe:
    """Return out of memory for a script that ended early; WorkloadError where no batch went on.

    It caught what its loop raised; where the data may have ended, nothing is known of the size.
    """
    if not any(each.outcome == "fit" for each in history):
        raise WorkloadError(
            f"{probe.message}, too few to measure", next_step="Let it run for more steps or epochs."
        )
    size, samples = probe.micro_batch_size, run.facts.dataset_size
    if samples is not None and size * (probe.steps + 2) > samples:
        return probe
    text = f"{probe.message}, and caught what ended it"
    return replace(probe, outcome="oom", message=text)


def _fail(task: MemoryTask, outcome: Outcome, message: str) -> Probe:
    return Probe(
        stage="memory",
        session=0,
        micro_batch_size=task.micro_batch_size,
        outcome=outcome,
        capacity_bytes=task.capacity_bytes,
        message=message,
    )


def _refuse_empty_range(run: Run, bounds: SearchBounds) -> None:
    smallest, largest = bounds.min_micro_batch_size, bounds.max_micro_batch_size
    if largest is None or largest >= smallest:
        return
    cap = run.spec.limits.max_micro_batch_size
    if cap == largest:
        raise UsageError(
            f"--max-batch {cap} is below {smallest}, the smallest batch that {run.facts.file} runs",
            next_step="Give a larger --max-batch.",
        )
    raise WorkloadError(
        f"{run.facts.file}: the dataset has {largest} samples, fewer than the smallest batch of "
        f"{smallest}",
        next_step="Give it more data, or a smaller --batch-multiple.",
    )


def _refuse_all(run: Run, bounds: SearchBounds) -> DeviceError:
    state = explain_state_size(run.facts, run.capacity_bytes)
    disturbances = judge_surroundings(_list_probes(run)).disturbances[:1]
    why = f": {state}" if state is not None else "".join(f". {each}" for each in disturbances)
    return DeviceError(
        f"{run.facts.file}: not even a batch of {bounds.min_micro_batch_size} fits in "
        f"{run.capacity_bytes / 2**20:.0f} MiB on {run.environment.device.name}{why}",
        next_step="Raise --memory-limit, or make the model or its samples smaller.",
    )


def _refuse_leak(run: Run, probe: Probe) -> None:
    if probe.growth_bytes_per_step is None:
        return
    raise WorkloadError(
        f"{run.facts.file}: memory grows by {probe.growth_bytes_per_step / 2**20:.1f} MiB with "
        f"each step at batch {probe.micro_batch_size}, and no end of it was seen, so no size fits "
        "for long",
        next_step="Look for tensors kept from step to step, such as losses or outputs appended to "
        "a list: append loss.item() or .detach() them.",
    )
