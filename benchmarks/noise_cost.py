"""What the noise pass costs over plain forward and backward, for each micro-batch.

Run: python benchmarks/noise_cost.py

Both loops get the same batches, made before the clock starts. The noise pass includes everything
the worker does for one point of the trajectory: the sums of 16 groups and their matrix of products.
Both run on the heap of the noise worker, which keeps freed memory; `default heap` is the plain loop
without that setting, over the plain loop with it.
"""

import statistics
import time
from pathlib import Path
from typing import NamedTuple

import torch
from results import write_results
from rich.console import Console
from rich.table import Table

from advisor.noise.measure_moments import GroupSums
from advisor.training.data import WorkloadSpec
from advisor.training.heap import keep_freed_memory
from advisor.training.loop import train
from advisor.training.model_file.workload import Workload
from advisor.training.training import Training

EXAMPLES = Path(__file__).parent.parent / "examples"
GROUPS = 16
#: Interleaved repetitions of both loops; the median of their ratios is reported.
REPETITIONS = 25
#: Micro-batches in each repetition, as rounds of the groups.
ROUNDS = {"digits.py": 8, "char_lm.py": 2, "convnet.py": 2}
MICRO_BATCH_SIZE = 32


def time_plain(training: Training, batches: list[object]) -> float:
    """Return the seconds of forward and backward over the batches, gradients cleared each time."""
    start = time.perf_counter()
    for batch in batches:
        training.backward(batch)
        training.optimizer.zero_grad()
    return time.perf_counter() - start


def time_noise(training: Training, batches: list[object]) -> float:
    """Return the seconds of one point of the noise trajectory over the batches."""
    start = time.perf_counter()
    sums = GroupSums(training, GROUPS, MICRO_BATCH_SIZE, rounds=len(batches) // GROUPS)
    train(training, iter(batches), [sums], micro_batch_size=MICRO_BATCH_SIZE, is_frozen=True)
    sums.finish(0, per_sample_sum=False)
    return time.perf_counter() - start


class Example(NamedTuple):
    """One example, its batches ready."""

    name: str
    training: Training
    batches: list[object]


def make_example(name: str, rounds: int) -> Example:
    """Return the example after one step, so that its optimizer's metric is measured too."""
    workload = Workload(WorkloadSpec(target=str(EXAMPLES / name), device="cpu"))
    training = workload.make_training()
    generator = torch.Generator().manual_seed(0)
    batches = [workload.draw(MICRO_BATCH_SIZE, generator) for _ in range(GROUPS * rounds)]
    training.step(batches[0])
    time_plain(training, batches)
    return Example(name, training, batches)


def measure(example: Example) -> tuple[float, float]:
    """Return the median seconds of the plain loop, and the median ratio of the noise pass to it."""
    time_noise(example.training, example.batches)
    pairs = [
        (time_plain(example.training, example.batches), time_noise(*example[1:]))
        for _ in range(REPETITIONS)
    ]
    return (
        statistics.median(plain for plain, _ in pairs),
        statistics.median(noise / plain for plain, noise in pairs),
    )


def main() -> None:
    """Measure every example, print the table, write the results."""
    examples = [make_example(name, rounds) for name, rounds in ROUNDS.items()]
    default = [
        statistics.median(time_plain(*example[1:]) for _ in range(REPETITIONS))
        for example in examples
    ]
    keep_freed_memory()
    rows = []
    for example, default_s in zip(examples, default, strict=True):
        plain_s, ratio = measure(example)
        rows.append(
            {
                "example": example.name,
                "micro_batch_size": MICRO_BATCH_SIZE,
                "micro_batches": len(example.batches),
                "plain_s": plain_s / len(example.batches),
                "ratio": ratio,
                "default_heap_ratio": default_s / plain_s,
            }
        )
    table = Table("example", "micro-batches", "plain (ms)", "noise pass", "default heap")
    for row in rows:
        table.add_row(
            str(row["example"]),
            f"{row['micro_batches']} x {MICRO_BATCH_SIZE}",
            f"{1000 * float(str(row['plain_s'])):.3f}",
            f"{row['ratio']:.3f} x",
            f"{row['default_heap_ratio']:.3f} x",
        )
    Console().print(table)
    write_results("noise_cost", rows)


if __name__ == "__main__":
    main()
