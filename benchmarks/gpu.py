"""What only a GPU can show: predicted against measured memory, and the guided search on the device.

Run: python benchmarks/gpu.py [--models NAME ...]. It needs one CUDA device and takes some minutes.
Each model is traced with CUDA's operators and then trained for three steps at three sizes, in fp32
and in bf16; the prediction is the trace's allocated peak, the measurement torch's own counter. The
search then looks for the largest micro-batch under a limit that the largest of these sizes is well
below.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from memory_limits import MODELS, MODELS_PATH, TIMEOUT_S, Silent
from results import write_results
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from advisor.device.catalogue import LARGE_WORKSPACE_BYTES, WORKSPACE_BYTES
from advisor.errors import AdvisorError
from advisor.measurements import Environment, Probe, WorkloadFacts
from advisor.memory_trace import MemoryTrace
from advisor.predict.replay import replay_allocated
from advisor.probe.runner import Runner
from advisor.recommend import derive
from advisor.session.memory import run_memory
from advisor.session.run import Run
from advisor.spec import (
    EnvironmentTask,
    InspectTask,
    Limits,
    MemoryTask,
    Precision,
    ProbeSpec,
    TraceTask,
    WorkloadSpec,
    parse_target,
)

MIB = 1 << 20
SIZES = (16, 64, 256)
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
#: torch's allocator rounds every block to this.
GRANULE_BYTES = 512
#: Limit of the search; the context comes on top.
LIMIT_BYTES = 4 << 30
BUDGET_S = 120.0


def compare_sizes(runner: Runner, workload: WorkloadSpec) -> list[dict[str, Any]]:
    """Return predicted and measured allocated peak at each size."""
    (trace,) = runner.run(TraceTask(workload=workload, operators="cuda"), timeout_s=TIMEOUT_S)
    assert isinstance(trace, MemoryTrace)
    is_hopper = torch.cuda.get_device_capability()[0] >= 9
    workspace_bytes = LARGE_WORKSPACE_BYTES if is_hopper else WORKSPACE_BYTES
    rows = []
    for size in SIZES:
        task = MemoryTask(workload=workload, micro_batch_size=size, capacity_bytes=None)
        (probe,) = runner.run(task, timeout_s=TIMEOUT_S)
        assert isinstance(probe, Probe)
        if probe.peak_allocated_bytes is None:
            continue
        peaks = replay_allocated(trace, size, granule_bytes=GRANULE_BYTES)
        predicted = peaks.allocated_bytes + 2 * workspace_bytes
        rows.append(
            {
                "micro_batch_size": size,
                "predicted_mib": predicted / MIB,
                "measured_mib": probe.peak_allocated_bytes / MIB,
                "error_fraction": predicted / probe.peak_allocated_bytes - 1.0,
            }
        )
    return rows


def search_largest(
    runner: Runner, workload: WorkloadSpec, environment: Environment
) -> dict[str, Any]:
    """Return what the memory stage answers under the limit."""
    limits = Limits(memory_limit_bytes=LIMIT_BYTES, budget_s=BUDGET_S)
    run = Run(
        ProbeSpec(workload=workload, limits=limits),
        argv=(),
        runner=runner,
        progress=Silent(),
        save=lambda _record: None,
    )
    (facts,) = runner.run(InspectTask(workload=workload), timeout_s=TIMEOUT_S)
    assert isinstance(facts, WorkloadFacts)
    run.keep_environment(environment)
    run.keep_workload(facts)
    run_memory(run)
    memory = derive(run.record).memory
    assert memory is not None
    return {
        "answer": memory.max_micro_batch_size,
        "verified": memory.verified,
        "method": memory.method,
        "probes": memory.probes,
        "ooms": memory.ooms,
        "tried": [[probe.micro_batch_size, probe.outcome] for probe in run.record.probes],
    }


def measure_model(name: str) -> list[dict[str, Any]]:
    """Return one row for each precision of a model; an error is a row as well."""
    rows = []
    path = MODELS_PATH / f"{name}.py"
    with Runner(parse_target(str(path))) as runner:
        (environment,) = runner.run(EnvironmentTask(device="cuda"), timeout_s=TIMEOUT_S)
        assert isinstance(environment, Environment)
        for precision in PRECISIONS:
            workload = WorkloadSpec(target=str(path), device="cuda", precision=precision)
            row: dict[str, Any] = {"model": name, "precision": precision}
            try:
                row["sizes"] = compare_sizes(runner, workload)
                row["search"] = search_largest(runner, workload, environment)
            except AdvisorError as error:
                row["error"] = error.message
            rows.append(row)
    return rows


def main() -> None:
    """Measure every model, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="*", default=list(MODELS))
    names = parser.parse_args().models
    if not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    rows = [row for name in names for row in measure_model(name)]
    table = Table("model", "precision", "predicted / measured - 1", "largest", "probes / OOMs")
    for row in rows:
        errors = ", ".join(f"{each['error_fraction']:+.1%}" for each in row.get("sizes", []))
        search = row.get("search", {})
        table.add_row(
            row["model"],
            row["precision"],
            row.get("error") or errors,
            str(search.get("answer")),
            f"{search.get('probes')} / {search.get('ooms')}",
        )
    Console().print(table)
    errors = [abs(each["error_fraction"]) for row in rows for each in row.get("sizes", [])]
    median = statistics.median(errors) if errors else None
    write_results("gpu", {"median_error_fraction": median, "rows": rows})


if __name__ == "__main__":
    main()
