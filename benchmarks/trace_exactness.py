"""The memory trace against real runs on the CPU: every storage, at sizes that were not traced.

Run: python benchmarks/trace_exactness.py. Two fake traces at 3 and 5 samples give each storage as a
line in the batch size; real runs at 7 and 19 are recorded by the same tracker and compared event by
event, size by size. The last column is independent of the tracker: the peak that the CPU allocator
counted in a run of its own over the peak of the trace, which lacks what an operator allocates and
frees inside itself (oneDNN's convolutions).
"""

import itertools
import time
from pathlib import Path

import torch
from results import write_results
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from advisor.predict.data import TraceTask
from advisor.predict.memory_trace import MemoryTrace
from advisor.predict.trace.steps import hold_training, measure_steps, run_steps, trace_steps
from advisor.predict.trace.symbolic import StructureDiffersError, check_trace, merge_traces
from advisor.training.data import WorkloadSpec
from advisor.training.model_file.workload import Workload

WORKLOADS = Path(__file__).parent.parent / "tests" / "workloads"
TRACED = (3, 5)
COMPARED = (7, 19)
#: File, settings, precision; recurrent layers run step by step, without oneDNN's one operator.
MODELS: tuple[tuple[str, dict[str, str], str], ...] = (
    ("trace/perceptron", {}, "fp32"),
    ("trace/perceptron", {"name": "AdamW", "foreach": "True"}, "fp32"),
    ("trace/perceptron", {"name": "RMSprop"}, "fp32"),
    ("trace/perceptron", {"name": "SGD", "momentum": "0.9"}, "fp32"),
    ("trace/residual", {}, "fp32"),
    ("trace/residual", {}, "bf16"),
    ("trace/attention", {}, "fp32"),
    ("trace/attention", {}, "bf16"),
    ("trace/attention", {"checkpointed": "True"}, "fp32"),
    ("trace/lstm", {}, "fp32"),
    ("trace/gru", {}, "fp32"),
    ("trace/embedding", {}, "fp32"),
    ("trace/tied", {}, "fp32"),
    ("trace/custom_function", {}, "fp32"),
    ("memory/convolutions", {}, "fp32"),
    ("memory/transformer", {}, "fp32"),
    ("good/transformers_bert", {}, "fp32"),
    ("good/lightning_module", {}, "fp32"),
)


class Untracked:
    """Takes the tracker's place in a run that nobody watches."""

    def mark(self, *_: object) -> None:
        """Do nothing."""

    def hold(self, *_: object, **__: object) -> None:
        """Do nothing."""


def compare(name: str, settings: dict[str, str], precision: str) -> dict[str, object]:
    """Return how the trace of one model compares with its real runs."""
    target = str(WORKLOADS / f"{name}.py")
    spec = WorkloadSpec(target=target, device="cpu", settings=settings, precision=precision)
    workload = Workload(spec)
    workload.loss(workload.make_model())
    start_s = time.perf_counter()
    task = TraceTask(workload=spec, operators="cpu")
    trace = merge_traces(*(trace_steps(workload, size, task) for size in TRACED))
    trace_s = time.perf_counter() - start_s
    equal, differences = True, []
    for size in COMPARED:
        real = measure_steps(workload, size, task)
        try:
            check_trace(trace, real)
        except StructureDiffersError as error:
            equal = False
            differences.append(str(error))
    return {
        "model": name,
        "settings": settings,
        "precision": precision,
        "events": len(trace.events),
        "compared_sizes": COMPARED,
        "equal": equal,
        "differences": differences,
        "trace_s": trace_s,
        "allocator_peak_over_trace": count_allocator_peak_bytes(workload, COMPARED[-1])
        / find_peak_bytes(trace, COMPARED[-1]),
    }


def find_peak_bytes(trace: MemoryTrace, size: int) -> int:
    """Return the peak of what is held beyond the setup."""
    live = peak = 0
    for event in trace.events[trace.phases[1].first_event :]:
        block = trace.blocks[event if event >= 0 else -1 - event]
        size_bytes = block.fixed_bytes + block.bytes_per_sample * size
        live += size_bytes if event >= 0 else -size_bytes
        peak = max(peak, live)
    return peak


def count_allocator_peak_bytes(workload: Workload, size: int) -> int:
    """Return the peak that the CPU allocator counts over three steps, without any tracker."""
    untracked: object = Untracked()
    task = TraceTask(workload=workload.spec, operators="cpu")
    training = hold_training(workload, workload.make_model(), untracked, task)
    batch = workload.take(range(size))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run_steps(training, itertools.repeat(batch), untracked)
    events = [each for each in seen.profiler.kineto_results.events() if each.name() == "[memory]"]
    live = peak = 0
    for each in sorted(events, key=lambda each: each.start_ns()):
        live += each.nbytes()
        peak = max(peak, live)
    return peak


def main() -> None:
    """Compare every model, print the table, write the results."""
    torch.backends.mkldnn.enabled = True
    rows = []
    for name, settings, precision in MODELS:
        torch.backends.mkldnn.enabled = name not in {"trace/lstm", "trace/gru"}
        rows.append(compare(name, settings, precision))
    table = Table("model", "events", "sizes", "equal", "trace (s)", "allocator / trace")
    for row in rows:
        chosen = " ".join(f"{key}={value}" for key, value in row["settings"].items())
        table.add_row(
            f"{row['model']} {chosen} {row['precision']}",
            str(row["events"]),
            ", ".join(map(str, row["compared_sizes"])),
            "yes" if row["equal"] else "no",
            f"{row['trace_s']:.2f}",
            f"{row['allocator_peak_over_trace']:.4f}",
        )
    Console().print(table)
    write_results("trace_exactness", rows)


if __name__ == "__main__":
    main()
