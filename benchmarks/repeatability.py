"""Whether the same model, probed several times, gets the same figures.

Run: python benchmarks/repeatability.py [--runs 5] [--budget 300s], on an idle machine.

Each run is the real command in a process of its own. After each, a training loop written by hand
is timed at the same batch, in a fresh process as well, so that both meet the same machine. Both run
on `--threads` threads, so that a core is left for the rest of the machine, and with a C heap that
keeps what is freed: the default one makes a loop's own speed differ by a third between processes.

Printed: whether one batch lies in the saturation intervals of all runs, and the spread (largest
less smallest over the median) of the throughput at one batch: the recommended one, or the nearest
that every run timed. Beside it the spread of the loop, of its median block of half a second.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOOP_BLOCKS, LOOP_BLOCK_S, LOOP_WARMUP_S = 7, 0.5, 1.0
#: The perceptron of the example is made wide enough for the speed to level off within its dataset.
SETTINGS = {"examples/digits.py": {"hidden": 512}}
#: glibc's settings for a heap that gives nothing back.
KEPT_HEAP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1000000000000"}


def probe(model: str, device: str, options: list[str]) -> dict[str, Any]:
    """Return the conclusions of one `bsadvisor probe`.

    Raises:
        CalledProcessError: The command failed.
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "run.json"
        subprocess.run(
            [
                sys.executable, "-m", "advisor.cli", "probe", model, "--device", device, "--quiet",
                "--json", str(path), *options,
            ],
            check=True, cwd=ROOT, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        derived: dict[str, Any] = json.loads(path.read_text())["derived"]
    return derived


def time_loop_apart(model: str, device: str, size: int) -> float:
    """Return the samples/s of the hand-written loop, in a fresh process."""
    command = [sys.executable, __file__, "--model", model, "--device", device, "--loop", str(size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    return float(done.stdout)


def time_loop(model: str, device: str, size: int) -> float:
    """Return the samples/s of a training loop as anyone writes it."""
    import torch
    from torch.nn import functional

    spec = importlib.util.spec_from_file_location("user_model", ROOT / model)
    assert spec is not None
    assert spec.loader is not None
    user: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(user)
    net = user.make_model(**SETTINGS.get(model, {})).to(device)
    optimizer = user.make_optimizer(net)
    batch = user.make_batch(size) if hasattr(user, "make_batch") else user.make_dataset()[:size]
    images, labels = (tensor.to(device) for tensor in batch)

    def run_for(seconds: float) -> float:
        steps, start = 0, time.perf_counter()
        while time.perf_counter() - start < seconds:
            functional.cross_entropy(net(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad()
            if device != "cpu":
                torch.cuda.synchronize()
            steps += 1
        return steps * size / (time.perf_counter() - start)

    run_for(LOOP_WARMUP_S)
    return statistics.median(run_for(LOOP_BLOCK_S) for _ in range(LOOP_BLOCKS))


def read_speeds(derived: dict[str, Any]) -> dict[int, float]:
    """Return the samples/s at each size that was timed."""
    points = derived["throughput"]["points"]
    return {each["micro_batch_size"]: each["samples_per_s"]["point"] for each in points}


def choose_compared_size(runs: list[dict[str, Any]]) -> int:
    """Return the size recommended most often, or the nearest that every run timed."""
    advised = statistics.mode(run["recommendation"]["micro_batch_size"] for run in runs)
    common = set.intersection(*(set(read_speeds(run)) for run in runs))
    return min(common, key=lambda size: (max(size, advised) / min(size, advised), size))


def measure_spread(values: list[float]) -> float:
    """Return the largest less the smallest value, over the median."""
    return (max(values) - min(values)) / statistics.median(values)


def find_shared_interval(runs: list[dict[str, Any]]) -> tuple[int, int | None] | None:
    """Return the batches that all saturation intervals hold (an open end as None), or None.

    An interval is unknown where a run says nothing of saturation: then nothing is shared.
    """
    found = [run["throughput"]["saturation"] for run in runs]
    if any(each["low"] is None for each in found):
        return None
    low = max(each["low"] for each in found)
    highs = [each["high"] for each in found if each["high"] is not None]
    high = min(highs, default=None)
    return None if high is not None and low > high else (low, high)


def compare(runs: list[dict[str, Any]], loops: list[float]) -> dict[str, object]:
    """Return the figures of all runs and of the loops beside them."""
    size = choose_compared_size(runs)
    speeds = [read_speeds(run)[size] for run in runs]
    return {
        "saturation": [run["throughput"]["saturation"] for run in runs],
        "shared_saturation_interval": find_shared_interval(runs),
        "recommended_micro_batch_sizes": [
            run["recommendation"]["micro_batch_size"] for run in runs
        ],
        "compared_micro_batch_size": size,
        "samples_per_s": speeds,
        "spread_fraction": measure_spread(speeds),
        "half_width_fractions": [run["throughput"]["half_width_fraction"] for run in runs],
        "disturbances": [run["throughput"]["disturbances"] for run in runs],
        "loop_samples_per_s": loops,
        "loop_spread_fraction": measure_spread(loops),
    }


def main() -> None:
    """Probe and time the loop in turns, print the figures, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default="examples/digits.py")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--budget", default="300s", help="of each run")
    parser.add_argument("--max-batch", default="1024", help="the largest micro-batch tried")
    parser.add_argument("--threads", type=int, default=1, help="of both, on a CPU")
    parser.add_argument("--no-write", action="store_true", help="print only")
    parser.add_argument("--loop", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop:
        print(time_loop(arguments.model, arguments.device, arguments.loop))
        return
    os.environ.update(KEPT_HEAP, OMP_NUM_THREADS=str(arguments.threads))
    options = ["--budget", arguments.budget, "--max-batch", arguments.max_batch]
    options += ["--noise-steps", "0"]  # the time is for the sessions
    for name, value in SETTINGS.get(arguments.model, {}).items():
        options += ["--set", f"{name}={value}"]
    runs: list[dict[str, Any]] = []
    loops: list[float] = []
    for number in range(arguments.runs):
        runs.append(probe(arguments.model, arguments.device, options))
        size = runs[0]["recommendation"]["micro_batch_size"]
        loops.append(time_loop_apart(arguments.model, arguments.device, size))
        print(f"run {number + 1}: {runs[-1]['throughput']['saturation']}", file=sys.stderr)
    results = {
        "model": arguments.model,
        "settings": SETTINGS.get(arguments.model, {}),
        "budget": arguments.budget,
        "threads": arguments.threads,
        "loop_micro_batch_size": runs[0]["recommendation"]["micro_batch_size"],
        **compare(runs, loops),
    }
    print_results(results, write=not arguments.no_write)


def print_results(results: dict[str, Any], *, write: bool) -> None:
    """Print the figures and write them."""
    from results import write_results
    from rich.console import Console
    from rich.table import Table

    table = Table("run", "saturation", "interval", "recommended", "samples/s", "loop (samples/s)")
    rows = zip(
        results["saturation"], results["recommended_micro_batch_sizes"],
        results["samples_per_s"], results["loop_samples_per_s"], strict=True,
    )  # fmt: skip
    for number, (saturation, advised, speed, loop) in enumerate(rows, start=1):
        answer = saturation["batch_size"] or saturation["status"]
        interval = f"{saturation['low']} to {saturation['high'] or 'open'}"
        table.add_row(
            str(number), str(answer), interval, str(advised), f"{speed:.1f}", f"{loop:.1f}"
        )
    console = Console()
    console.print(table)
    console.print(f"in every interval: {results['shared_saturation_interval'] or 'nothing'}")
    console.print(
        f"spread at batch {results['compared_micro_batch_size']}: "
        f"{100 * results['spread_fraction']:.1f} %, of the loop at batch "
        f"{results['loop_micro_batch_size']}: {100 * results['loop_spread_fraction']:.1f} %"
    )
    if write:
        console.print(f"written: {write_results('repeatability', results)}")


if __name__ == "__main__":
    main()
