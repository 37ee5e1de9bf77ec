"""One cell of the memory table: its trace, and its prediction beside what a loop took."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from advisor.device.catalogue import Gpu
from advisor.engine.runner import Runner
from advisor.predict.buffers import find_card
from advisor.predict.data import TraceTask
from advisor.predict.memory_trace import MemoryTrace
from advisor.predict.replay import AllocatorSettings, replay_allocator
from advisor.training.data import Precision, WorkloadSpec
from benchmarks.table.by_hand import Counted, Loop, TracesTask

PATH = Path(__file__).resolve().parent / "workload.py"
MIB = 1 << 20
#: Of a task that does many, on a busy machine too.
TIMEOUT_S = 900.0


def compare(gpu: Gpu, loop: Loop, trace: MemoryTrace, counted: Counted) -> dict[str, Any]:
    """Return predicted and counted peaks of one cell."""
    assert counted.allocated_bytes is not None
    assert counted.reserved_bytes is not None
    settings = AllocatorSettings(workspace_bytes=gpu.workspace_bytes, card=find_card(gpu))
    peaks = replay_allocator(trace, loop.size, settings=settings, capacity_bytes=None)
    return {
        "kind": loop.kind,
        "card": gpu.name,
        "precision": loop.precision,
        "optimizer": loop.optimizer,
        "size": loop.size,
        "trace": trace.method,
        "reason": trace.reason,
        "allocated_mib": counted.allocated_bytes / MIB,
        "reserved_mib": counted.reserved_bytes / MIB,
        "allocated_error_fraction": peaks.allocated_bytes / counted.allocated_bytes - 1.0,
        "reserved_error_fraction": peaks.reserved_bytes / counted.reserved_bytes - 1.0,
    }


def trace_all(runner: Runner, loops: Sequence[Loop]) -> list[MemoryTrace]:
    """Return the trace of each training; where it serves one size only, at that of the loop."""
    tasks = [
        TraceTask(workload=describe(each.kind, each.precision, each.optimizer), operators="cuda")
        for each in loops
    ]
    found = list(runner.run(TracesTask(traces=tuple(tasks)), timeout_s=TIMEOUT_S))
    alone = [place for place, trace in enumerate(found) if not trace.serves_every_size]
    again = tuple(
        msgspec.structs.replace(tasks[place], micro_batch_size=loops[place].size) for place in alone
    )
    if again:
        at_size = runner.run(TracesTask(traces=again), timeout_s=TIMEOUT_S)
        for place, trace in zip(alone, at_size, strict=True):
            found[place] = trace
    return found


def describe(kind: str, precision: Precision, optimizer: str) -> WorkloadSpec:
    """Return the workload of one training."""
    settings = {"kind": kind, "optimizer": optimizer}
    return WorkloadSpec(target=str(PATH), device="cuda", precision=precision, settings=settings)
