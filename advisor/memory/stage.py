"""The memory stage: probe after probe until the search is content."""

import signal
import time
from math import inf

from msgspec.structs import replace

from advisor.device.allocator_settings import has_expandable_segments
from advisor.device.catalogue import recognise_gpu
from advisor.engine.budget import PROBE_OF_LEFT, PROBE_OF_MEMORY, TRACE_OF_MEMORY
from advisor.engine.ends import WorkerDeathError, WorkerTimeoutError
from advisor.engine.run import Run
from advisor.errors import AdvisorError, DeviceError, SampleError, UsageError, WorkloadError
from advisor.memory.data import PROBES, MemoryTask, Outcome, Probe, list_sizes
from advisor.memory.plan import choose_bounds, choose_next_micro_batch_size, narrow_bounds
from advisor.memory.refusals import judge_failure
from advisor.memory.search import SearchBounds
from advisor.memory.surroundings import (
    can_spill,
    explain_state_size,
    find_spill,
    judge_surroundings,
)
from advisor.predict.changes import make_trace_task
from advisor.predict.data import PREDICTED_MEMORY, STEP_COST, TRACE
from advisor.predict.footprint import predict_on_card
from advisor.predict.pieces import derive_pieces
from advisor.predict.replay import AllocatorSettings, replay_allocator
from advisor.predict.roofline import cost_step

#: Steps that took less than this were not timed well enough to be multiplied.
_SHORTEST_STEPS_S = 0.005
#: A probe that the time left makes smaller than asked must still grow by this to tell anything.
_LEAST_GROWTH = 1.5
#: Share of the time left that a probe may take of which less was expected.
_HANGING_FRACTION = 0.5
#: Share of the trace's time above which a worker's start leaves too little of it.
_TRACE_START_FRACTION = 0.5


def measure_base(run: Run) -> float:
    """Probe the user's own batch, or the smallest where it does not fit, unless one has run.

    Returns the seconds of a step of the user's own batch; without one, of the smallest. Raises
    DeviceError where not even that fits, WorkloadError where the model fails otherwise.
    """
    bounds = _choose_bounds(run)
    _refuse_empty_range(run, bounds)
    while not (fits := _list_probes(run, "fit")):
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


def _list_probes(run: Run, outcome: Outcome | None = None) -> list[Probe]:
    searched = (probe for probe in run.record.all(PROBES) if probe.stage == "memory")
    return [probe for probe in searched if outcome in {None, probe.outcome}]


def _try_size(run: Run, size: int, bounds: SearchBounds, steps_s: float) -> bool:
    """Probe the size, or a smaller one whose steps take less; return whether there is one."""
    narrowed = narrow_bounds(bounds, _list_probes(run))
    affordable = _choose_affordable(size, _list_probes(run, "fit"), narrowed, steps_s)
    if affordable is None:
        return False
    run.progress.stage(f"memory: batch {affordable}", left_s=run.left_s)
    # What hangs at one size leaves the others their time.
    most_s = max(_HANGING_FRACTION * run.left_s, run.start_s + steps_s)
    probe = _probe(run, affordable, most_s)
    run.add(PROBES, probe)
    if probe.outcome == "fit":
        _simulate_peak(run, affordable)
    if probe.growth_bytes_per_step is not None:
        raise WorkloadError(
            f"{run.facts.file}: memory grows by {probe.growth_bytes_per_step / 2**20:.1f} MiB with "
            f"each step at batch {affordable}, and no end of it was seen, so no size fits for long",
            next_step="Look for tensors kept from step to step, such as losses or outputs appended "
            "to a list: append loss.item() or .detach() them.",
        )
    if probe.outcome == "timeout":
        run.progress.note(f"memory: batch {affordable} took too long: {probe.message}")
    if probe.outcome == "refused":
        run.progress.note(f"memory: batch {affordable} does not run: {probe.message}")
    return True


def _choose_size(run: Run, bounds: SearchBounds, deadline: float) -> int | None:
    """Return the size to probe next; traces the model where the first does not suffice."""
    history = _list_probes(run)
    size = choose_next_micro_batch_size(history, bounds, run.record.get(PREDICTED_MEMORY))
    is_first = len(_list_probes(run, "fit")) == 1 and history[-1].outcome == "fit"
    can_trace = not run.facts.is_step_only and run.facts.script is None
    if not (is_first and can_trace) or size is None or size >= bounds.largest_allowed:
        return size
    run.progress.stage("memory: trace", left_s=run.left_s)
    why = _keep_prediction(run, TRACE_OF_MEMORY * (deadline - time.monotonic()))
    _simulate_peak(run, history[-1].micro_batch_size)
    if why is not None:
        run.progress.note(f"memory: no trace, so the search goes by its probes alone ({why})")
    return choose_next_micro_batch_size(history, bounds, run.record.get(PREDICTED_MEMORY))


def _keep_prediction(run: Run, most_s: float) -> str | None:
    """Keep the peaks that a trace predicts within the time, or return why there are none."""
    if run.start_s > _TRACE_START_FRACTION * most_s:
        return "a worker takes too long to start"
    settings = find_settings(run)
    task = make_trace_task(run, "cpu" if settings is None else "cuda")
    try:
        (trace,) = run.runner.run(task, timeout_s=most_s)
    except AdvisorError as error:
        return error.message
    if not trace.serves_every_size:
        return trace.reason or "its allocations differ from size to size"
    if settings is None:
        prediction = derive_pieces(trace)
    else:
        prediction = predict_on_card(trace, capacity_bytes=run.capacity_bytes, settings=settings)
    run.hold(TRACE, trace)
    run.set(PREDICTED_MEMORY, prediction)
    run.set(STEP_COST, cost_step(trace))
    return None


def _simulate_peak(run: Run, size: int) -> None:
    """Add to the prediction the peak of a size by the simulated allocator, if there is one."""
    trace, settings = run.held(TRACE), find_settings(run)
    prediction = run.record.get(PREDICTED_MEMORY)
    if trace is None or prediction is None or settings is None or prediction.largest is None:
        return
    if size not in dict(prediction.simulated):
        peaks = replay_allocator(trace, size, settings=settings, capacity_bytes=None)
        simulated = (*prediction.simulated, (size, peaks.allocated_bytes))
        run.set(PREDICTED_MEMORY, replace(prediction, simulated=simulated))


def find_settings(run: Run) -> AllocatorSettings | None:
    """Return what the device's allocator is, by its card and the user's own settings; CUDA only."""
    if run.environment.device.kind != "cuda":
        return None
    gpu = recognise_gpu(run.environment.device.name)
    return AllocatorSettings.of(gpu, expandable_segments=has_expandable_segments())


def _choose_affordable(
    size: int, ran: list[Probe], bounds: SearchBounds, steps_s: float
) -> int | None:
    """Return the size, a smaller one where its steps would outlast the time, or None."""
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


def _probe(run: Run, size: int, most_s: float) -> Probe:
    """Return the probe of a size; `spill` where it ran, but not in the memory it was meant to."""
    history = _list_probes(run)
    ran = list_sizes(history, "fit")
    task = MemoryTask(
        workload=run.spec.workload,
        micro_batch_size=size,
        capacity_bytes=run.capacity_bytes,
        largest_samples=run.facts.largest_samples,
    )
    try:
        probe = _run_task(run, task, most_s)
    except WorkerDeathError as death:
        probe = _judge_death(run, task, death)
    except WorkloadError as error:
        if not ran or isinstance(error, SampleError):
            raise
        outcome: Outcome = judge_failure(error.message) if min(ran) < size else "refused"
        is_late = isinstance(error, WorkerTimeoutError)
        probe = task.end("timeout" if is_late else outcome, error.message)
    if probe.outcome == "error":
        probe = _judge_early_end(run, probe, is_first=not ran)
    why = find_spill(probe, history, timed=can_spill(run.environment))
    if why is not None:
        probe = replace(probe, outcome="spill", message=why)
    return replace(probe, session=len(history))


def _run_task(run: Run, task: MemoryTask, most_s: float = inf) -> Probe:
    started = time.monotonic()
    (probe,) = run.runner.run(task, timeout_s=min(run.left_s, most_s))
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
            probe = _run_task(run, replace(task, capacity_bytes=None))  # raises where it is broken
            return replace(probe, outcome="oom", steps=0, message=again.message)
    ran = any(probe.outcome == "fit" for probe in run.record.all(PROBES))
    is_smallest = task.micro_batch_size <= run.facts.min_micro_batch_size
    if death.code == -signal.SIGKILL and (ran or not is_smallest):
        return task.end("oom", death.message)
    raise death


def _judge_early_end(run: Run, probe: Probe, *, is_first: bool) -> Probe:
    """Return out of memory for a script that ended early; WorkloadError where no batch went on.

    It caught what its loop raised; where the data may have ended, nothing is known of the size.
    """
    if is_first:
        raise WorkloadError(
            f"{probe.message}, too few to measure", next_step="Let it run for more steps or epochs."
        )
    samples = run.facts.dataset_size
    if samples is not None and probe.micro_batch_size * (probe.steps + 2) > samples:
        return probe
    return replace(probe, outcome="oom", message=f"{probe.message}, and caught what ended it")


def _refuse_empty_range(run: Run, bounds: SearchBounds) -> None:
    smallest, largest = bounds.min_micro_batch_size, bounds.max_micro_batch_size
    if largest is None or largest >= smallest:
        return
    if largest == run.spec.limits.max_micro_batch_size:
        raise UsageError(
            f"--max-batch {largest} is below {smallest}, the smallest batch that "
            f"{run.facts.file} runs",
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
