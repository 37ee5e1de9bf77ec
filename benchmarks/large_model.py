"""What a model of a billion parameters takes of the host: predicted, probed, its noise measured.

On a pretended card of 80 GB (`tests/stand_in/cuda`), whose memory costs the host nothing, so that
all that is seen is the host's own: the memory of all processes of a command, several times a
second. `rss` counts what processes share in each of them, `pss` once. Where all numbers are 0 a
probe measures no noise, so that the noise's worker runs by itself, with no room on the card beside
its step: its sums of gradients are sketches. No iterate comes of it, as no number does.

Run: python benchmarks/large_model.py [--parts NAME ...] [--budget SECONDS]. It writes
`results/large_model.json`; parts that are not run again stay there.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from results import write_results
from throughput_against_loop import is_pretended

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from advisor.engine.runner import Runner
from advisor.noise.data import NoiseTask, Trajectory
from advisor.training.data import WorkloadSpec, parse_target

HERE = Path(__file__).resolve().parent
MODEL, RESULTS = HERE / "models" / "gpt_1b.py", HERE / "results" / "large_model.json"
GIB = 1 << 30
CARD = {"STAND_IN_NAME": "NVIDIA H100 80GB HBM3", "STAND_IN_MEMORY_BYTES": str(80 * GIB)}
PAUSE_S = 0.2


@contextmanager
def watched() -> Iterator[dict[str, Any]]:
    """Yield what this process's children take together at most, complete on leaving."""
    row: dict[str, Any] = {"took_s": 0.0, "most_rss_gib": 0.0, "most_pss_gib": 0.0}
    is_over, began_s = threading.Event(), time.monotonic()

    def watch() -> None:
        while not is_over.wait(PAUSE_S):
            for name, size in sum_memory().items():
                row[f"most_{name}_gib"] = max(row[f"most_{name}_gib"], size / GIB)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield row
    finally:
        is_over.set()
        watcher.join()
        row["took_s"] = time.monotonic() - began_s


def sum_memory() -> dict[str, int]:
    """Return what all children of this process hold."""
    total = {"rss": 0, "pss": 0}
    for process in psutil.Process().children(recursive=True):
        try:
            held = process.memory_full_info()
        except psutil.Error:  # it has ended
            continue
        total = {"rss": total["rss"] + held.rss, "pss": total["pss"] + held.pss}
    return total


def run_command(*arguments: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a command took, and its record."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "record.json")
        command = [sys.executable, "-m", "advisor.cli", *arguments, "--json", str(path)]
        with watched() as row:
            row["exit_code"] = subprocess.run(command, check=False).returncode
        return row, json.loads(path.read_text())


def measure_prediction(_budget_s: int) -> dict[str, Any]:
    """Return what `predict` takes."""
    return run_command("predict", str(MODEL), "--gpu", "H100 SXM")[0]


def measure_probe(budget_s: int) -> dict[str, Any]:
    """Return what `probe` takes, and the largest size that it saw fit."""
    budget = ("--budget", str(budget_s))
    row, record = run_command("probe", str(MODEL), "--device", "cuda", *budget)
    fits = [each["micro_batch_size"] for each in record["probes"] if each["outcome"] == "fit"]
    return row | {"largest_seen_to_fit": max(fits, default=0)}


def measure_noise(budget_s: int) -> dict[str, Any]:
    """Return what the noise's worker takes where rows of gradients fit nowhere."""
    task = NoiseTask(
        workload=WorkloadSpec(target=str(MODEL), device="cuda"),
        trajectory=Trajectory(micro_batch_size=2, points=(1,), budget_s=budget_s),
        micro_batch_size=2,
        groups=8,
        max_micro_batches=8,
    )
    with watched() as row, Runner(parse_target(str(MODEL))) as runner:
        runner.run(task, timeout_s=budget_s)
    return row


PARTS = {"predict": measure_prediction, "probe": measure_probe, "noise": measure_noise}


def main() -> None:
    """Run the parts, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--budget", type=int, default=900, help="seconds of the longest part")
    arguments = parser.parse_args()
    if not is_pretended():
        parser.error("this is for pretended cards: on a real one, watch the host beside gpu.py")
    os.environ.update(CARD)
    os.environ["PYTHONPATH"] = str(HERE.parent)
    rows = json.loads(RESULTS.read_text())["results"] if RESULTS.exists() else {}
    for part in arguments.parts:
        rows[part] = PARTS[part](arguments.budget)
        print(part, json.dumps(rows[part], indent=2))
        write_results("large_model", rows)


if __name__ == "__main__":
    main()
