"""The trace that guides the search for memory, kept where it serves every size."""

from msgspec.structs import replace

from advisor.device.allocator_settings import has_expandable_segments
from advisor.device.catalogue import recognise_gpu
from advisor.engine.run import Run
from advisor.errors import AdvisorError
from advisor.predict.buffers import find_card
from advisor.predict.data import PREDICTED_MEMORY, STEP_COST, TRACE, TraceTask
from advisor.predict.footprint import predict_on_card
from advisor.predict.pieces import derive_pieces
from advisor.predict.replay import AllocatorSettings, replay_allocator
from advisor.predict.roofline import cost_step

#: Share of the trace's time above which a worker's start leaves too little of it.
_TRACE_START_FRACTION = 0.5


def keep_prediction(run: Run, most_s: float) -> str | None:
    """Keep the peaks that a trace predicts within the time, or return why there are none."""
    if run.start_s > _TRACE_START_FRACTION * most_s:
        return "a worker takes too long to start"
    settings, limits = find_settings(run), run.spec.limits
    task = TraceTask(
        workload=run.spec.workload,
        operators="cpu" if settings is None else "cuda",
        largest_samples=run.facts.largest_samples,
        min_micro_batch_size=run.facts.min_micro_batch_size,
        batch_multiple=limits.batch_multiple,
    )
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


def simulate_peak(run: Run, size: int) -> None:
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
    return AllocatorSettings(
        expandable_segments=has_expandable_segments(),
        workspace_bytes=0 if gpu is None else gpu.workspace_bytes,
        card=find_card(gpu),
    )
