"""The prediction that leads the memory search: one trace of the model, where it can be had."""

import os

import msgspec

from advisor.engine.run import Run
from advisor.errors import AdvisorError
from advisor.predict.data import TraceTask
from advisor.predict.footprint import predict_unusable_bytes
from advisor.predict.memory_trace import MemoryTrace
from advisor.predict.pieces import derive_pieces
from advisor.predict.replay import AllocatorSettings

#: Share of the budget that the trace may take: without it the search needs a few probes more.
_BUDGET_FRACTION = 0.1


def predict_memory(run: Run) -> None:
    """Keep the predicted peaks in the record; where there are none, say why and go on."""
    if run.facts.is_step_only:
        return
    run.progress.stage("memory: trace", left_s=run.left_s)
    try:
        trace = _trace(run)
    except AdvisorError as error:
        _note(run, error.message)
        return
    if not trace.serves_every_size:
        _note(run, trace.reason or "its allocations differ from size to size")
        return
    prediction = derive_pieces(trace)
    if run.environment.device.kind == "cuda":
        unusable = _simulate_unusable_bytes(trace, run.capacity_bytes)
        prediction = msgspec.structs.replace(prediction, unusable_bytes=unusable)
    run.keep_prediction(prediction, trace)


def _trace(run: Run) -> MemoryTrace:
    task = TraceTask(
        workload=run.spec.workload,
        operators="cuda" if run.environment.device.kind == "cuda" else "cpu",
        largest_samples=run.facts.largest_samples,
        min_micro_batch_size=run.facts.min_micro_batch_size,
        batch_multiple=run.spec.limits.batch_multiple,
    )
    most_s = _BUDGET_FRACTION * run.spec.limits.budget_s
    (trace,) = run.runner.run(task, timeout_s=min(most_s, run.left_s))
    assert isinstance(trace, MemoryTrace)
    return trace


def _note(run: Run, why: str) -> None:
    run.progress.note(f"memory: no trace, so the search goes by its probes alone ({why})")


def _simulate_unusable_bytes(trace: MemoryTrace, capacity_bytes: int) -> int:
    configuration = os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "")
    settings = AllocatorSettings(expandable_segments="expandable_segments:True" in configuration)
    return predict_unusable_bytes(trace, capacity_bytes=capacity_bytes, settings=settings)
