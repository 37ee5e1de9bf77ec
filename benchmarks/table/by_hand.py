"""Loops as users write them, on a card, and what torch's allocator counts of them; and traces.

A task does many in one process, since its start takes longer than what it does.
"""

import gc
from typing import Any, ClassVar

import msgspec
import torch

from advisor.engine.task import Task
from advisor.predict.data import TraceTask
from advisor.predict.measure import run as trace
from advisor.predict.memory_trace import MemoryTrace
from advisor.training.data import Precision
from benchmarks.table import workload


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """The peaks of a loop; None where it ran out of memory."""

    allocated_bytes: int | None = None
    reserved_bytes: int | None = None


class Loop(msgspec.Struct, frozen=True, kw_only=True):
    """Some steps, each on a batch of its own."""

    kind: str
    optimizer: str
    precision: Precision
    size: int
    steps: int = 4
    #: As a loop whose variables live until they are assigned again; else each ends with the step.
    holds_output: bool = True
    #: Of the caching allocator; None is the card's.
    limit_bytes: int | None = None


class LoopsTask(Task[Counted], frozen=True, kw_only=True):
    """Train by hand, one loop after the other."""

    runs: ClassVar[str] = "benchmarks.table.by_hand:run_loops"

    loops: tuple[Loop, ...]


class TracesTask(Task[MemoryTrace], frozen=True, kw_only=True):
    """Trace, one training after the other."""

    runs: ClassVar[str] = "benchmarks.table.by_hand:run_traces"

    traces: tuple[TraceTask, ...]


def run_traces(task: TracesTask, emit: Any) -> None:
    """Emit each trace."""
    for each in task.traces:
        trace(each, emit)


def run_loops(task: LoopsTask, emit: Any) -> None:
    """Emit the peaks of each loop; it finds the allocator as a new process does."""
    for loop in task.loops:
        gc.collect()
        torch._C._cuda_clearCublasWorkspaces()  # noqa: SLF001 - the only way to give them back
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        emit(count(loop))


def count(loop: Loop) -> Counted:
    """Return the peaks of a loop."""
    device = torch.device("cuda", 0)
    if loop.limit_bytes is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(loop.limit_bytes / total, device)
    try:
        train(loop, device)
    except torch.OutOfMemoryError:
        return Counted()
    return Counted(
        allocated_bytes=torch.cuda.max_memory_allocated(device),
        reserved_bytes=torch.cuda.max_memory_reserved(device),
    )


def train(loop: Loop, device: torch.device) -> None:
    """Train; what is held from step to step is what a loop's variables hold."""
    kind = workload.KINDS[loop.kind]
    model = kind.make().to(device)
    optimizer = workload.OPTIMIZERS[loop.optimizer](model.parameters())
    low = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(loop.precision)
    scaler = torch.amp.GradScaler("cuda", enabled=loop.precision == "fp16")
    for _ in range(loop.steps):
        batch = tuple(part.to(device) for part in kind.make_batch(loop.size))
        with torch.autocast("cuda", dtype=low, enabled=low is not None):
            output = model(batch[0])
            loss = kind.lose(output, batch)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if not loop.holds_output:
            del batch, output, loss
