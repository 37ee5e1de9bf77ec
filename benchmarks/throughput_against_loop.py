"""The tool's timing against a training loop written by hand, on the same models.

Run: python benchmarks/throughput_against_loop.py [--device cpu|cuda] [--models NAME ...]

On a CPU the tool's own timed blocks alternate with blocks of the hand-written loop in one process,
each on a model of its own: between processes a shared machine drifts by more than the two differ.
The median of the ratios of neighbouring blocks is reported.

On a CUDA device the tool's own sessions alternate with the loop in a process of its own, timed by
CUDA events (`session_against_loop.py`), on models of `benchmarks/models/` at a batch that is meant
to keep a large card busy. The energy of a sample by the tool is set beside mean power × time. It
takes some minutes, `--budget` at most; what was not reached is named.
"""

import argparse
import ctypes
import itertools
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from results import write_results
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from session_against_loop import compare_model, read_environment
from torch.nn import functional

from advisor.device.data import Environment
from advisor.throughput.measure_blocks import BlockTimer
from advisor.training.data import WorkloadSpec
from advisor.training.loop import train
from advisor.training.model_file.workload import Workload

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE.parent / "examples"
REPETITIONS = 25
BLOCK_S = 0.25
SIZES = {"digits.py": 256, "char_lm.py": 32, "convnet.py": 32}

#: Micro-batches on a CUDA device, at most some 15 GiB of memory; the first six run by default.
GPU_SIZES = {
    "gpt2": 8,
    "perceptron": 16384,
    "residual": 4096,
    "transformer": 8192,
    "recurrent": 4096,
    "checkpointed": 8192,
    "embedding": 4096,
    "tied": 8192,
    "convolutions": 4096,
}
GPU_MODELS = tuple(GPU_SIZES)[:6]
#: In place of figures.
PRETENDED = "not measured: the card is pretended"
GPU_BUDGET_S = 420.0
#: A model is not begun with less time: one session, one loop, and the start of both.
LEAST_MODEL_S = 20.0
#: What is aimed at: throughput within the first share of the loop's, energy within the second.
SPEED_FRACTION, ENERGY_FRACTION = 0.02, 0.1


def write_loop(user: ModuleType, batch: object) -> Callable[[], None]:
    """Return a training step as anyone writes it."""
    model = user.make_model()
    optimizer = user.make_optimizer(model)

    def step() -> None:
        if hasattr(user, "loss_fn"):
            loss = user.loss_fn(model, batch)
        else:
            loss = functional.cross_entropy(model(batch[0]), batch[1])  # type: ignore[index]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def time_loop(step: Callable[[], None], count: int) -> float:
    """Return the mean seconds of a step."""
    start = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - start) / count


def measure(name: str, size: int) -> dict[str, object]:
    """Return both figures and the median ratio for one example."""
    workload = Workload(WorkloadSpec(target=str(EXAMPLES / name), device="cpu"))
    training = workload.make_training()
    batch = workload.draw(size, torch.Generator().manual_seed(0))
    by_hand = write_loop(sys.modules["bsadvisor_model_file"], batch)
    count = max(1, round(BLOCK_S / time_loop(by_hand, 3)))
    pairs = []
    for _ in range(REPETITIONS):
        timer = BlockTimer(workload.device, count)
        train(training, itertools.repeat(batch), [timer], micro_batch_size=size)
        pairs.append((size / timer.block.step_s, size / time_loop(by_hand, count)))
    return {
        "example": name,
        "micro_batch_size": size,
        "tool_samples_per_s": statistics.median(tool for tool, _ in pairs),
        "loop_samples_per_s": statistics.median(hand for _, hand in pairs),
        "median_ratio": statistics.median(tool / hand for tool, hand in pairs),
    }


def measure_on_cpu(names: Sequence[str]) -> list[dict[str, object]]:
    """Measure the examples, print the table, and return its rows."""
    rows = [measure(name, SIZES[name]) for name in names]
    table = Table("example", "batch", "tool (samples/s)", "loop (samples/s)", "median ratio")
    for row in rows:
        table.add_row(
            str(row["example"]),
            str(row["micro_batch_size"]),
            f"{row['tool_samples_per_s']:.0f}",
            f"{row['loop_samples_per_s']:.0f}",
            f"{row['median_ratio']:.3f}",
        )
    Console().print(table)
    return rows


def measure_on_gpu(
    names: Sequence[str],
    environment: Environment,
    *,
    deadline_s: float,
    keep: Callable[[dict[str, Any]], object],
) -> dict[str, Any]:
    """Compare every model that the time allows, print the table, and return the results.

    Args:
        names: Of `GPU_SIZES`.
        environment: Of the device.
        deadline_s: By the monotonic clock; each model gets about an equal part of what is left.
        keep: Called with the results after each model, so that none is lost.
    """
    rows: list[dict[str, Any]] = []
    for index, name in enumerate(names):
        left_s = deadline_s - time.monotonic()
        row: dict[str, Any] = {"model": name, "error": "not reached: the time was up"}
        if left_s >= LEAST_MODEL_S:
            part_s = left_s / (len(names) - index)
            row = _measure_model(name, environment, left_s=left_s, part_s=part_s)
        if is_pretended():  # it ran, but its times are those of a model
            row = {"model": name, "error": row.get("error", PRETENDED)}
        rows.append(row)
        keep(summarise(environment, rows))
    print_comparison(rows)
    return summarise(environment, rows)


def is_pretended() -> bool:
    """Return whether the cards are those of `tests/stand_in/cuda`."""
    try:
        return hasattr(ctypes.CDLL("libcuda.so.1"), "card_count")
    except OSError:
        return False


def _measure_model(
    name: str, environment: Environment, *, left_s: float, part_s: float
) -> dict[str, Any]:
    """Return the row of one model; whatever ends it is a row as well."""
    began_s = time.monotonic()
    row: dict[str, Any] = {"model": name}
    try:
        row |= compare_model(
            HERE / "models" / f"{name}.py",
            GPU_SIZES[name],
            environment,
            part_ends_s=began_s + part_s,
            deadline_s=began_s + left_s,
        )
    except Exception as error:  # noqa: BLE001 - one model must not end the others
        traceback.print_exc()
        row["error"] = f"{type(error).__name__}: {error}"[:500]
    return row | {"elapsed_s": time.monotonic() - began_s}


def summarise(environment: Environment, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the results: the device, how many models agree, and every row."""
    ratios = [row["median_ratio"] for row in rows if row.get("median_ratio") is not None]
    energies = [row["energy"]["ratio"] for row in rows if row.get("energy", {}).get("ratio")]
    return {
        "device": {
            "name": environment.device.name,
            "driver": environment.driver,
            "cuda": environment.cuda,
        },
        "models": len(rows),
        "speed_compared": len(ratios),
        "speed_agrees": count_within(ratios, SPEED_FRACTION),
        "energy_compared": len(energies),
        "energy_agrees": count_within(energies, ENERGY_FRACTION),
        "rows": list(rows),
    }


def count_within(ratios: Sequence[float], fraction: float) -> int:
    """Return how many ratios differ from one by no more than the fraction."""
    return sum(abs(ratio - 1.0) <= fraction for ratio in ratios)


def print_comparison(rows: Sequence[dict[str, Any]]) -> None:
    """Print one line for each model."""
    table = Table("model", "batch", "tool", "loop (samples/s)", "ratio", "J/sample", "energy ratio")
    for row in rows:
        if "error" in row:
            table.add_row(row["model"], "", "", escape(row["error"]))
            continue
        energy = row["energy"]
        table.add_row(
            row["model"],
            str(row["micro_batch_size"]),
            _show(row["tool_samples_per_s"], ".1f"),
            _show(row["loop_samples_per_s"], ".1f"),
            _show(row["median_ratio"], ".3f"),
            _show(energy["energy_per_sample_j"], ".3g"),
            energy["missing_because"] or _show(energy["ratio"], ".3f"),
        )
    Console(width=140).print(table)


def _show(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def main() -> None:
    """Measure on the device, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--models", nargs="+", help="examples on a CPU, benchmarks/models on CUDA")
    parser.add_argument("--budget", type=float, default=GPU_BUDGET_S, help="seconds, on CUDA")
    arguments = parser.parse_args()
    known = SIZES if arguments.device == "cpu" else GPU_SIZES
    usual = tuple(SIZES) if arguments.device == "cpu" else GPU_MODELS
    names = arguments.models or usual
    unknown = [name for name in names if name not in known]
    if unknown:
        parser.error(f"no such models: {', '.join(unknown)}; there are {', '.join(known)}")
    if arguments.device == "cpu":
        write_results("throughput_against_loop", measure_on_cpu(names))
        return
    if not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    deadline_s = time.monotonic() + arguments.budget
    measure_on_gpu(names, read_environment("cuda"), deadline_s=deadline_s, keep=write_gpu_results)


def write_gpu_results(results: dict[str, Any]) -> None:
    """Write what there is so far."""
    write_results("throughput_against_loop_gpu", results)


if __name__ == "__main__":
    main()
