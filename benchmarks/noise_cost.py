"""What the noise pass costs over plain forward and backward, for each micro-batch.

Run: python benchmarks/noise_cost.py

Both loops get the same batches, made before the clock starts. The noise pass includes everything
the worker does for one point of the trajectory: the sums of 16 groups and their matrix of products.
"""

import statistics
import time
from pathlib import Path

import torch
from results import write_results
from rich.console import Console
from rich.table import Table

from advisor.spec import WorkloadSpec
from advisor.worker.group_sums import GroupSums
from advisor.workload.training import Training
from advisor.workload.workload import Workload

EXAMPLES = Path(__file__).parent.parent / "examples"
GROUPS = 16
#: Interleaved repetitions of both loops; the median of their ratios is reported.
REPETITIONS = 15
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
    sums = GroupSums(training, GROUPS, MICRO_BATCH_SIZE)
    for k, batch in enumerate(batches):
        sums.add(k * GROUPS // len(batches), batch)  # group after group, as the worker does
    sums.finish(0, per_sample_sum=False)
    return time.perf_counter() - start


def main() -> None:
    """Measure every example, print the table, write the results."""
    rows = []
    for name, rounds in ROUNDS.items():
        workload = Workload(WorkloadSpec(target=str(EXAMPLES / name), device="cpu"))
        training = workload.make_training()
        generator = torch.Generator().manual_seed(0)
        batches = [workload.draw(MICRO_BATCH_SIZE, generator) for _ in range(GROUPS * rounds)]
        training.step(batches[0])  # the optimizer's state exists, so its metric is measured too
        time_plain(training, batches)
        time_noise(training, batches)
        pairs = [
            (time_plain(training, batches), time_noise(training, batches))
            for _ in range(REPETITIONS)
        ]
        rows.append(
            {
                "example": name,
                "micro_batch_size": MICRO_BATCH_SIZE,
                "micro_batches": len(batches),
                "plain_s": statistics.median(plain for plain, _ in pairs) / len(batches),
                "ratio": statistics.median(noise / plain for plain, noise in pairs),
            }
        )
    table = Table("example", "micro-batches", "plain (ms)", "noise pass / plain")
    for row in rows:
        table.add_row(
            str(row["example"]),
            f"{row['micro_batches']} x {MICRO_BATCH_SIZE}",
            f"{1000 * float(str(row['plain_s'])):.3f}",
            f"{row['ratio']:.3f}",
        )
    Console().print(table)
    write_results("noise_cost", rows)


if __name__ == "__main__":
    main()
