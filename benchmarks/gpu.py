"""What only a GPU can show: throughput and energy, predicted memory, and the guided search on it.

Run: python benchmarks/gpu.py [--models NAME ...] [--parts throughput memory] [--budget SECONDS]. It
needs one CUDA device and takes less than nine minutes. Results are written after every model, one
file for each part: `throughput_against_loop_gpu` and `gpu`. What fails is a row with its error and
ends nothing else; what the time does not reach is named. On pretended cards (`tests/stand_in/cuda`)
it runs from end to end as well: its memory is real, its speed is marked as not measured, and the
results go to files of their own.

Throughput: the tool's sessions against loops timed by CUDA events, and energy against power × time
(`throughput_against_loop.py`).

Memory: each model (`--models`) is traced with CUDA's operators and then trained for three steps at
three sizes, in fp32 and in bf16; the prediction is the trace's through the simulated allocator,
with what this card's reductions take, and the measurement torch's own counters. The search then
looks for the largest micro-batch under a limit that the largest of these sizes is well below.
"""

import argparse
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from memory_limits import MODELS, MODELS_PATH, TIMEOUT_S, Silent
from results import write_results
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from throughput_against_loop import (
    GPU_MODELS,
    is_pretended,
    measure_on_gpu,
    write_gpu_results,
)

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from advisor.device.catalogue import LARGE_WORKSPACE_BYTES, WORKSPACE_BYTES
from advisor.device.data import Environment
from advisor.engine.command import examine
from advisor.engine.record import open_record
from advisor.engine.run import Run
from advisor.engine.runner import Runner
from advisor.engine.spec import Limits, Spec
from advisor.engine.task import InspectTask
from advisor.memory.data import PROBES, MemoryTask, Probe
from advisor.memory.plan import MEMORY
from advisor.memory.stage import run_memory
from advisor.predict.buffers import Card
from advisor.predict.data import TraceTask
from advisor.predict.memory_trace import MemoryTrace
from advisor.predict.replay import AllocatorSettings, replay_allocator
from advisor.questions import RUN
from advisor.training.data import Precision, WorkloadFacts, WorkloadSpec, parse_target

MIB = 1 << 20
SIZES = (16, 64, 256)
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
#: Limit of the search; the context comes on top.
LIMIT_BYTES = 4 << 30
BUDGET_S = 120.0
#: Of the whole script, and how much of it the throughput may take; memory has the rest.
TOTAL_S, THROUGHPUT_FRACTION = 500.0, 0.58
#: Neither a model's sizes nor its search are begun with less time.
LEAST_SIZES_S, LEAST_SEARCH_S = 20.0, 40.0
PARTS = ("throughput", "memory")


def compare_sizes(
    runner: Runner, workload: WorkloadSpec, *, timeout_s: float
) -> list[dict[str, Any]]:
    """Return predicted and measured allocated peak at each size."""
    (trace,) = runner.run(TraceTask(workload=workload, operators="cuda"), timeout_s=timeout_s)
    assert isinstance(trace, MemoryTrace)
    settings, rows = read_settings(), []
    for size in SIZES:
        task = MemoryTask(workload=workload, micro_batch_size=size, capacity_bytes=None)
        (probe,) = runner.run(task, timeout_s=timeout_s)
        assert isinstance(probe, Probe)
        if probe.peak_allocated_bytes is None:
            continue
        assert probe.peak_reserved_bytes is not None
        peaks = replay_allocator(trace, size, settings=settings, capacity_bytes=None)
        rows.append(
            {
                "micro_batch_size": size,
                "predicted_mib": peaks.allocated_bytes / MIB,
                "measured_mib": probe.peak_allocated_bytes / MIB,
                "error_fraction": peaks.allocated_bytes / probe.peak_allocated_bytes - 1.0,
                "reserved_error_fraction": peaks.reserved_bytes / probe.peak_reserved_bytes - 1.0,
            }
        )
    return rows


def read_settings() -> AllocatorSettings:
    """Return what a prediction for this very card takes, as torch tells it."""
    card = torch.cuda.get_device_properties(0)
    return AllocatorSettings(
        workspace_bytes=LARGE_WORKSPACE_BYTES if card.major >= 9 else WORKSPACE_BYTES,
        card=Card(
            multiprocessors=card.multi_processor_count,
            threads_per_multiprocessor=card.max_threads_per_multi_processor,
        ),
    )


def search_largest(
    runner: Runner, workload: WorkloadSpec, environment: Environment
) -> dict[str, Any]:
    """Return what the memory stage answers under the limit."""
    limits = Limits(memory_limit_bytes=LIMIT_BYTES, budget_s=BUDGET_S)
    spec = Spec(workload=workload, limits=limits)
    run = Run(
        spec,
        record=open_record(RUN.record_type, spec, kind="run", argv=()),
        runner=runner,
        progress=Silent(),
        save=lambda _record: None,
    )
    (facts,) = runner.run(InspectTask(workload=workload), timeout_s=TIMEOUT_S)
    assert isinstance(facts, WorkloadFacts)
    run.keep_environment(environment)
    run.keep_workload(facts)
    run_memory(run)
    memory = run.of(MEMORY)
    assert memory is not None
    return {
        "answer": memory.max_micro_batch_size,
        "verified": memory.verified,
        "method": memory.method,
        "probes": memory.probes,
        "ooms": memory.ooms,
        "tried": [[probe.micro_batch_size, probe.outcome] for probe in run.record.all(PROBES)],
    }


def measure_model(
    name: str, precision: Precision, environment: Environment, *, deadline_s: float
) -> dict[str, Any]:
    """Return the row of a model in one precision; whatever ends it is in the row."""
    row: dict[str, Any] = {"model": name, "precision": precision}
    path = MODELS_PATH / f"{name}.py"
    workload = WorkloadSpec(target=str(path), device="cuda", precision=precision)
    left_s = deadline_s - time.monotonic()
    if left_s < LEAST_SIZES_S:
        return row | {"error": "not reached: the time was up"}
    try:
        with Runner(parse_target(str(path))) as runner:
            row["sizes"] = compare_sizes(runner, workload, timeout_s=min(TIMEOUT_S, left_s))
            if deadline_s - time.monotonic() < LEAST_SEARCH_S:
                return row | {"search_missing_because": "the time was up"}
            row["search"] = search_largest(runner, workload, environment)
    except Exception as error:  # noqa: BLE001 - one model must not end the others
        traceback.print_exc()
        row["error"] = f"{type(error).__name__}: {error}"[:500]
    return row


def measure_memory(names: Sequence[str], environment: Environment, *, deadline_s: float) -> None:
    """Measure every model that the time allows, in fp32 first, and print the table."""
    rows: list[dict[str, Any]] = []
    for precision in PRECISIONS:
        for name in names:
            rows.append(measure_model(name, precision, environment, deadline_s=deadline_s))
            write_memory(rows, environment)
    table = Table("model", "precision", "predicted / measured - 1", "largest", "probes / OOMs")
    for row in rows:
        errors = ", ".join(f"{each['error_fraction']:+.1%}" for each in row.get("sizes", []))
        search = row.get("search", {})
        table.add_row(
            row["model"],
            row["precision"],
            escape(row.get("error") or errors),
            str(search.get("answer")),
            f"{search.get('probes')} / {search.get('ooms')}",
        )
    Console(width=140).print(table)


def write_memory(rows: Sequence[dict[str, Any]], environment: Environment) -> None:
    """Write the rows there are so far."""
    errors = [abs(each["error_fraction"]) for row in rows for each in row.get("sizes", [])]
    median = statistics.median(errors) if errors else None
    device = {
        "name": environment.device.name,
        "driver": environment.driver,
        "worker_start_s": None if is_pretended() else environment.worker_start_s,
    }
    name = "gpu_pretended" if is_pretended() else "gpu"
    write_results(name, {"device": device, "median_error_fraction": median, "rows": list(rows)})


def run_parts(parts: dict[str, Callable[[], object]]) -> list[str]:
    """Run each part, and return the names of those that failed."""
    failed = []
    for name, run in parts.items():
        try:
            run()
        except Exception:  # noqa: BLE001 - one part must not end the others
            traceback.print_exc()
            failed.append(name)
    return failed


def main() -> None:
    """Run the parts; each prints its table and writes its results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="*", default=list(MODELS), help="of the memory part")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--budget", type=float, default=TOTAL_S, help="seconds in all")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    deadline_s = time.monotonic() + arguments.budget
    environment = examine("cuda")
    both = len(set(arguments.parts)) > 1
    speed_ends_s = deadline_s - (1.0 - THROUGHPUT_FRACTION) * arguments.budget * both
    parts: dict[str, Callable[[], object]] = {
        "throughput": lambda: measure_on_gpu(
            GPU_MODELS,
            environment,
            deadline_s=speed_ends_s,
            keep=lambda results: None if is_pretended() else write_gpu_results(results),
        ),
        "memory": lambda: measure_memory(arguments.models, environment, deadline_s=deadline_s),
    }
    failed = run_parts({name: parts[name] for name in PARTS if name in arguments.parts})
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
