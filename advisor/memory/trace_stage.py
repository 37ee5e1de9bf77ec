"""The trace that guides the search for memory, kept where it serves every size."""

import msgspec

from advisor.device.catalogue import recognise_gpu
from advisor.engine.run import Run
from advisor.errors import AdvisorError
from advisor.predict.buffers import find_card
from advisor.predict.data import PREDICTED_MEMORY, STEP_COST, TRACE, TraceTask
from advisor.predict.footprint import predict_unusable_bytes
from advisor.predict.pieces import derive_pieces
from advisor.predict.replay import AllocatorSettings
from advisor.predict.roofline import cost_step

#: Share of the trace's time above which a worker's start leaves too little of it.
_TRACE_START_FRACTION = 0.5


def keep_prediction(run: Run, most_s: float, *, allocator: str) -> str | None:
    """Keep the peaks that a trace predicts, or return why there are none.

    Args:
        run: Of the search.
        most_s: That the trace may take.
        allocator: The settings that the user gave torch's.
    """
    if run.start_s > _TRACE_START_FRACTION * most_s:
        return "a worker takes too long to start"
    is_cuda, limits = run.environment.device.kind == "cuda", run.spec.limits
    task = TraceTask(
        workload=run.spec.workload,
        operators="cuda" if is_cuda else "cpu",
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
    prediction = derive_pieces(trace)
    if is_cuda:
        gpu = recognise_gpu(run.environment.device.name)
        settings = AllocatorSettings(
            expandable_segments="expandable_segments:True" in allocator,
            workspace_bytes=0 if gpu is None else gpu.workspace_bytes,
            card=find_card(gpu),
        )
        unusable = predict_unusable_bytes(
            trace, capacity_bytes=run.capacity_bytes, settings=settings
        )
        prediction = msgspec.structs.replace(prediction, unusable_bytes=unusable)
    run.hold(TRACE, trace)
    run.set(PREDICTED_MEMORY, prediction)
    run.set(STEP_COST, cost_step(trace))
    return None
