"""Predicted GPU memory against what others measured on an A100.

Run: python benchmarks/memory_prediction.py

Needs torchvision for the image models, and timm for those that were really measured; without timm
torchvision's twins of them are traced, without torchvision they are left out. What nvidia-smi
showed holds the CUDA context and that host's baseline too, so one constant is fitted for each data
set: the median of what is left. The image models are predicted twice: with cuDNN trying its
algorithms, as timm's training script has it, and without. Figures and their source: data/README.md.
"""

import csv
import importlib.util
import statistics
import sys
from pathlib import Path

import msgspec
import numpy as np
from results import write_results
from rich.console import Console
from rich.table import Table

from advisor.device.catalogue import find_gpu
from advisor.predict.data import TraceTask
from advisor.predict.measure import run
from advisor.predict.memory_trace import MemoryTrace
from advisor.predict.replay import AllocatorSettings, replay_allocator
from advisor.training.data import WorkloadSpec

HERE = Path(__file__).parent
MIB = 1 << 20
GPU = "A100 40GB"
#: What the median and the 90th percentile of the error are to stay below.
TARGETS = {"perceptrons": (5.0, 30.0, "MiB"), "vision": (0.03, 0.13, "of the measured total")}
TARGETS["vision without workspaces"] = TARGETS["vision"]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One measured run and its prediction, in MiB; the error is after the offset."""

    model: str
    batch_size: int
    measured_mib: float
    allocated_mib: float
    reserved_mib: float
    error_mib: float = 0.0


def read_rows(name: str) -> list[dict[str, str]]:
    """Return the rows of a file in `data`."""
    with (HERE / "data" / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def trace_model(file: str, settings: dict[str, str]) -> MemoryTrace:
    """Return the trace of a model in `measured_models` with CUDA's operators.

    Raises:
        RuntimeError: It does not hold for every batch size.
    """
    spec = WorkloadSpec(target=str(HERE / "measured_models" / file), settings=settings)
    traces: list[MemoryTrace] = []
    run(TraceTask(workload=spec, operators="cuda"), traces.append)
    if traces[0].method != "symbolic":
        raise RuntimeError(f"{settings}: {traces[0].reason}")
    return traces[0]


def predict(trace: MemoryTrace, model: str, row: dict[str, str]) -> Row:
    """Return the row with what the trace takes on the card, no offset yet."""
    card = find_gpu(GPU)
    size = int(row["batch_size"])
    settings = AllocatorSettings(workspace_bytes=card.workspace_bytes)
    peaks = replay_allocator(trace, size, settings=settings, capacity_bytes=card.memory_bytes)
    return Row(
        model=model,
        batch_size=size,
        measured_mib=float(row["max_gpu_memory_mib"]),
        allocated_mib=peaks.allocated_bytes / MIB,
        reserved_mib=peaks.reserved_bytes / MIB,
    )


def predict_perceptrons() -> list[Row]:
    """Return all perceptrons, each traced for itself."""
    keys = ("in_features", "out_features", "linear_widths")
    rows = []
    for row in read_rows("a100_mlp_memory.csv"):
        trace = trace_model("perceptron.py", {key: row[key] for key in keys})
        rows.append(predict(trace, row["linear_widths"], row))
    return rows


def predict_vision(library: str, *, workspaces: bool) -> list[Row]:
    """Return all image models, each traced once for all its batch sizes.

    Args:
        library: The models are taken from it.
        workspaces: Whether cuDNN's workspaces are estimated, as they are where the user has it try
            its algorithms.
    """
    column = {"timm": "timm_model", "torchvision": "torchvision_twin"}[library]
    traces: dict[str, MemoryTrace] = {}
    rows = []
    for row in read_rows("a100_vision_memory.csv"):
        name = row[column]
        if name not in traces:
            settings = {
                "name": name,
                "library": library,
                "image_size": row["image_size"],
                "cudnn_benchmark": str(workspaces),
            }
            traces[name] = trace_model("vision.py", settings)
        rows.append(predict(traces[name], name, row))
    return rows


def fit_offset(rows: list[Row]) -> tuple[float, list[Row]]:
    """Return the median of measured minus reserved, and the rows with the error left after it."""
    offset = statistics.median(row.measured_mib - row.reserved_mib for row in rows)
    return offset, [
        msgspec.structs.replace(row, error_mib=row.reserved_mib + offset - row.measured_mib)
        for row in rows
    ]


def summarise(offset: float, rows: list[Row]) -> dict[str, object]:
    """Return the errors of one data set, absolute and as shares of the measured total."""
    errors = np.array([abs(row.error_mib) for row in rows])
    shares = errors / np.array([row.measured_mib for row in rows])
    return {
        "rows": len(rows),
        "offset_mib": offset,
        "median_mib": float(np.median(errors)),
        "p90_mib": float(np.quantile(errors, 0.9)),
        "largest_mib": float(errors.max()),
        "median_fraction": float(np.median(shares)),
        "p90_fraction": float(np.quantile(shares, 0.9)),
        "largest_fraction": float(shares.max()),
    }


def choose_library() -> str | None:
    """Return the library to take the image models from, the best that is installed."""
    if importlib.util.find_spec("torchvision") is None:
        return None
    return "timm" if importlib.util.find_spec("timm") is not None else "torchvision"


def print_summary(name: str, summary: dict[str, object]) -> None:
    """Print the errors of one data set beside their targets."""
    unit = "mib" if TARGETS[name][2] == "MiB" else "fraction"
    table = Table("", "rows", "offset", "median", "p90", "largest", title=name)
    table.add_row(
        "MiB",
        str(summary["rows"]),
        *(f"{summary[key]:.0f}" for key in ("offset_mib", "median_mib", "p90_mib", "largest_mib")),
    )
    table.add_row(
        "of the total",
        "",
        "",
        *(f"{summary[f'{key}_fraction']:.2%}" for key in ("median", "p90", "largest")),
    )
    Console().print(table)
    for key, target in zip(("median", "p90"), TARGETS[name][:2], strict=True):
        met = float(str(summary[f"{key}_{unit}"])) <= target
        print(f"{name}: {key} {'within' if met else 'ABOVE'} {target:g} {TARGETS[name][2]}")


def print_rows(rows: list[Row]) -> None:
    """Print every row of a short list."""
    table = Table("model", "batch", "allocated", "reserved", "measured", "error (MiB)", "error")
    for row in rows:
        table.add_row(
            row.model,
            str(row.batch_size),
            f"{row.allocated_mib:.0f}",
            f"{row.reserved_mib:.0f}",
            f"{row.measured_mib:.0f}",
            f"{row.error_mib:+.0f}",
            f"{row.error_mib / row.measured_mib:+.1%}",
        )
    Console().print(table)


def main() -> None:
    """Predict every row, print the tables, write the results."""
    payload: dict[str, object] = {"gpu": GPU}
    report("perceptrons", predict_perceptrons(), payload)
    library = choose_library()
    payload["library"] = library
    if library is None:
        print("the image models are left out: torchvision is not installed", file=sys.stderr)
    else:
        for name, workspaces in (("vision", True), ("vision without workspaces", False)):
            print_rows(report(name, predict_vision(library, workspaces=workspaces), payload))
    write_results("memory_prediction", payload)


def report(name: str, predicted: list[Row], payload: dict[str, object]) -> list[Row]:
    """Print the errors of one data set, add them to the payload, and return its rows."""
    offset, rows = fit_offset(predicted)
    summary = summarise(offset, rows)
    print_summary(name, summary)
    payload[name.replace(" ", "_")] = {**summary, "each": msgspec.to_builtins(rows)}
    return rows


if __name__ == "__main__":
    main()
