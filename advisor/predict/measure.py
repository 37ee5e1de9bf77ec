"""One trace: fake tensors at two sizes; where the code does not allow that, what else is exact.

two fake traces agree, a third confirms ─▶ symbolic: holds at every size
the structure changes with the size ─────▶ per_size: holds at one size
fake tensors fail ─▶ real runs on the CPU ─▶ measured: at every size where two agree, else at one
"""

import math
from collections.abc import Callable, Sequence

import msgspec

from advisor.engine.worker.entry import Emit, describe, location_of, seed_everything
from advisor.errors import AdvisorError
from advisor.predict.data import TraceTask
from advisor.predict.memory_trace import MemoryTrace
from advisor.predict.trace.fake import UntraceableError, trace_steps
from advisor.predict.trace.ledger import SizeTrace
from advisor.predict.trace.measured import measure_steps
from advisor.predict.trace.symbolic import (
    StructureDiffersError,
    check_trace,
    hold_for_one_size,
    merge_traces,
)
from advisor.training.model_file.workload import Workload
from advisor.training.model_file.worst_batch import take_worst_batch

#: The smallest size traced: sizes 1 and 2 are often special cases of a kernel or of a model.
_FIRST_SIZE = 3
#: From the first size to the second, in granules.
_SECOND_OFFSET = 2
#: From the first size to the one that confirms the line; far enough for other kernels to show.
_THIRD_OFFSET = 13
#: The same where the steps are really run, which takes time in proportion.
_THIRD_OFFSET_MEASURED = 5
#: Longest text of an error that goes into a reason.
_MAX_TEXT = 200


def run(task: TraceTask, emit: Emit[MemoryTrace]) -> None:
    """Emit one MemoryTrace; what fails in a real run too is the user's error and is raised."""
    workload = Workload(msgspec.structs.replace(task.workload, device="cpu", compile=False))
    trace = _trace_or_measure(workload, task)
    if task.workload.compile:
        note = "torch.compile is left out of the trace"
        trace = msgspec.structs.replace(trace, notes=(*trace.notes, note))
    emit(trace)


def _trace_or_measure(workload: Workload, task: TraceTask) -> MemoryTrace:
    def trace(size: int) -> SizeTrace:
        seed_everything(task.workload.seed)
        return trace_steps(
            workload,
            take_worst_batch(workload, size, task.largest_samples),
            size,
            operators=task.operators,
            checkpoint_blocks=task.checkpoint_blocks,
            foreach=task.foreach,
        )

    try:
        if task.micro_batch_size is not None:
            one = trace(task.micro_batch_size)
            return hold_for_one_size(one, reason="only this size was asked for")
        traces, differs = _trace_sizes(trace, choose_sizes(task, _THIRD_OFFSET))
    except AdvisorError:
        raise
    except Exception as error:  # noqa: BLE001 - the real run tells whether it is the user's
        reason = _explain(error)
    else:
        if not isinstance(traces, MemoryTrace):
            return hold_for_one_size(traces, reason=differs)
        return traces
    return _measure(workload, task, reason)


def _trace_sizes(
    trace: Callable[[int], SizeTrace], sizes: Sequence[int]
) -> tuple[MemoryTrace | SizeTrace, str]:
    """Return the trace for every size, else the one of the largest size and why."""
    first, second, third = map(trace, sizes)
    try:
        return check_trace(merge_traces(first, second), third), ""
    except StructureDiffersError as error:
        return third, str(error)


def _measure(workload: Workload, task: TraceTask, reason: str) -> MemoryTrace:
    """Return what real runs on the CPU show, with the reason why they were needed."""

    def measure(size: int) -> SizeTrace:
        seed_everything(task.workload.seed)
        return measure_steps(
            workload,
            take_worst_batch(workload, size, task.largest_samples),
            size,
            checkpoint_blocks=task.checkpoint_blocks,
            foreach=task.foreach,
            cuda_asked=task.operators == "cuda",
        )

    if task.micro_batch_size is not None:
        one = measure(task.micro_batch_size)
        return hold_for_one_size(one, reason=reason, method="measured")
    merged, differs = _trace_sizes(measure, choose_sizes(task, _THIRD_OFFSET_MEASURED))
    if isinstance(merged, MemoryTrace):
        return msgspec.structs.replace(merged, method="measured", reason=reason)
    return hold_for_one_size(merged, reason=f"{reason}; {differs}", method="measured")


def choose_sizes(task: TraceTask, third_offset: int) -> tuple[int, int, int]:
    """Return three sizes that the model can run, 3 and 5 the first of them where it may."""
    granule = task.batch_multiple
    first = granule * math.ceil(max(_FIRST_SIZE, task.min_micro_batch_size) / granule)
    return first, first + _SECOND_OFFSET * granule, first + third_offset * granule


def _explain(error: Exception) -> str:
    """Return one clause on what fake tensors could not do, with its place in the user's file."""
    if isinstance(error, UntraceableError):
        return str(error)
    operator = getattr(error, "func", None)
    text = describe(error) if operator is None else f"{operator} needs values, and these have none"
    where = location_of(error)
    return f"fake tensors failed{f' at {where}' if where else ''}: {text[:_MAX_TEXT]}"
