"""What a prediction costs: time and peak memory of the whole process tree, three cards each.

Run: python benchmarks/predict_cost.py [MODEL ...]

Memory is the sum over the command and all its descendants of the proportional set size, sampled;
pages that processes share count once.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from results import write_results
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent
MODELS = ("benchmarks/models/gpt2.py", "examples/char_lm.py", "examples/convnet.py")
CARDS = ("RTX 4090", "A100 80GB", "H100")
CORES = 2
SAMPLE_S = 0.05


def predict(model: str) -> dict[str, object]:
    """Return time, memory and answer of one prediction on `CORES` cores."""
    options = [part for card in CARDS for part in ("--gpu", card)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prediction.json"
        command = [sys.executable, "-m", "advisor.cli", "predict", model, *options]
        start, peak_bytes = time.perf_counter(), 0
        process = subprocess.Popen(
            [*command, "--quiet", "--json", str(path)], cwd=ROOT, stdout=subprocess.DEVNULL
        )
        os.sched_setaffinity(process.pid, sorted(os.sched_getaffinity(0))[:CORES])
        while process.poll() is None:
            peak_bytes = max(peak_bytes, measure_tree(process.pid))
            time.sleep(SAMPLE_S)
        elapsed_s = time.perf_counter() - start
        row: dict[str, object] = {
            "model": model,
            "exit_code": process.returncode,
            "elapsed_s": elapsed_s,
            "peak_bytes": peak_bytes,
        }
        if process.returncode == 0:
            row |= summarise(json.loads(path.read_bytes()))
    return row


def measure_tree(pid: int) -> int:
    """Return the memory of a process and all its descendants."""
    total = 0
    try:
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            try:
                total += process.memory_full_info().pss
            except psutil.Error:  # it has just ended
                continue
    except psutil.Error:
        return total
    return total


def summarise(document: dict[str, object]) -> dict[str, object]:
    """Return the parameter count, the method, and the largest size for each card."""
    predictions: list[dict[str, object]] = document["predictions"]  # type: ignore[assignment]
    traces: list[dict[str, object]] = document["traces"]  # type: ignore[assignment]
    workload: dict[str, object] = document["workload"]  # type: ignore[assignment]
    return {
        "parameters": workload["parameter_count"],
        "method": traces[0]["method"],
        "events": len(traces[0]["events"]),  # type: ignore[arg-type]
        "largest": {str(one["gpu"]): one["max_micro_batch_size"] for one in predictions},
    }


def main() -> None:
    """Predict every model, print the table, write the results."""
    rows = [predict(model) for model in (sys.argv[1:] or MODELS)]
    table = Table("model", "time (s)", "peak (GiB)", "events", "largest")
    for row in rows:
        largest = row.get("largest") or {}
        assert isinstance(largest, dict)
        table.add_row(
            str(row["model"]),
            f"{row['elapsed_s']:.1f}",
            f"{int(str(row['peak_bytes'])) / 2**30:.2f}",
            str(row.get("events")),
            ", ".join(f"{card} {size['point']}" for card, size in largest.items()),
        )
    Console().print(table)
    if not sys.argv[1:]:
        write_results("predict_cost", rows)


if __name__ == "__main__":
    main()
