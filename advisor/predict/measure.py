"""One trace: fake tensors at three sizes; where the code does not allow that, what else is exact.

two fake traces agree, a third confirms ─▶ symbolic: holds at every size
the structure changes with the size ─────▶ per_size: holds at one size
fake tensors fail ─▶ real runs on the CPU ─▶ measured: at every size where two agree, else at one
"""

from msgspec.structs import replace

from advisor.engine.worker.emitter import Emit
from advisor.engine.worker.failure import describe, location_of
from advisor.errors import AdvisorError, WorkloadError
from advisor.predict.allocator import round_up
from advisor.predict.data import TraceTask
from advisor.predict.memory_trace import MemoryTrace, TraceMethod
from advisor.predict.trace.fake import UntraceableError
from advisor.predict.trace.steps import measure_steps, trace_steps
from advisor.predict.trace.symbolic import (
    StructureDiffersError,
    check_trace,
    conclude,
    merge_traces,
)
from advisor.training.device_failure import is_out_of_memory
from advisor.training.first_step import take_first_step
from advisor.training.model_file.workload import Workload

#: Of the step that shows how the optimizer is stepped: BatchNorm cannot run at 1.
_SMALLEST_SIZE = 2
#: The smallest size traced: sizes 1 and 2 are often special cases of a kernel or of a model.
_FIRST_SIZE = 3
#: From it to each size, in granules: the last confirms the line, far enough for other kernels to
#: show, and nearer where the steps are really run, which takes time in proportion.
_OFFSETS, _MEASURED_OFFSETS = (0, 2, 13), (0, 2, 5)
#: Longest text of an error that goes into a reason.
_MAX_TEXT = 200


def run(task: TraceTask, emit: Emit[MemoryTrace]) -> None:
    """Emit one MemoryTrace; what fails in a real run too is the user's error and is raised."""
    workload = Workload(replace(task.workload, device="cpu", compile=False))
    why_run: str | None = None
    try:
        trace = _trace(workload, task)
    except AdvisorError:
        raise
    except Exception as error:  # noqa: BLE001 - the real run tells whether it is the user's
        why_run = _explain(error)
    if why_run:  # outside of the handler, so that the error and its tensors are gone
        trace = _measure(workload, task, why_run)
    if task.workload.compile:
        note = "torch.compile is left out of the trace"
        trace = replace(trace, notes=(*trace.notes, note))
    emit(trace)


def _measure(workload: Workload, task: TraceTask, why_run: str) -> MemoryTrace:
    """Return the trace of real runs; a first step tells how the optimizer is stepped.

    A model that runs that step, but not every size, is a WorkloadError.
    """
    if workload.is_step_only:
        return _trace(workload, task, why_run)
    ran = round_up(max(_SMALLEST_SIZE, task.min_micro_batch_size), task.batch_multiple)
    take_first_step(workload, workload.make_training(), ran)
    try:
        return _trace(workload, task, why_run)
    except Exception as error:
        if isinstance(error, AdvisorError) or is_out_of_memory(error):
            raise
        raise WorkloadError(
            f"{describe(error)}, at a batch size of its own, as {ran} runs",
            next_step="Give the multiple that the model needs with --batch-multiple, or one size "
            "with --micro-batch-size.",
        ) from error


def _trace(workload: Workload, task: TraceTask, why_run: str | None = None) -> MemoryTrace:
    """Return the trace under fake tensors; with a reason why those fail, of real runs."""
    record = measure_steps if why_run else trace_steps
    method: TraceMethod = "measured" if why_run else "per_size"
    if task.micro_batch_size is not None:
        one = record(workload, task.micro_batch_size, task)
        return conclude(one, method=method, reason=why_run or "only this size was asked for")
    granule = task.batch_multiple
    small = round_up(max(_FIRST_SIZE, task.min_micro_batch_size), granule)
    offsets = _MEASURED_OFFSETS if why_run else _OFFSETS
    first, second, third = (record(workload, small + each * granule, task) for each in offsets)
    try:
        merged = check_trace(merge_traces(first, second), third)
    except StructureDiffersError as error:
        reason = f"{why_run}; {error}" if why_run else str(error)
        return conclude(third, method=method, reason=reason)
    return replace(merged, method=method, reason=why_run) if why_run else merged


def _explain(error: Exception) -> str:
    """Return one clause on what fake tensors could not do, with its place in the user's file."""
    if isinstance(error, UntraceableError):
        return str(error)
    operator = getattr(error, "func", None)
    text = describe(error) if operator is None else f"{operator} needs values, and these have none"
    where = location_of(error)
    return f"fake tensors failed{f' at {where}' if where else ''}: {text[:_MAX_TEXT]}"
