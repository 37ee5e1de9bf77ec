"""The tool's timing against a training loop written by hand, on the same models.

Run: python benchmarks/throughput_against_loop.py

The tool's own timed blocks alternate with blocks of the hand-written loop in one process, each on a
model of its own: between processes a shared machine drifts by more than the two differ. The median
of the ratios of neighbouring blocks is reported.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from results import write_results
from rich.console import Console
from rich.table import Table
from torch.nn import functional

from advisor.spec import WorkloadSpec
from advisor.worker.timing import time_block
from advisor.workload.workload import Workload

EXAMPLES = Path(__file__).parent.parent / "examples"
REPETITIONS = 25
BLOCK_S = 0.25
SIZES = {"digits.py": 256, "char_lm.py": 32, "convnet.py": 32}


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
        tool_s, _ = time_block(lambda: training.step(batch), count, workload.device)
        pairs.append((size / tool_s, size / time_loop(by_hand, count)))
    return {
        "example": name,
        "micro_batch_size": size,
        "tool_samples_per_s": statistics.median(tool for tool, _ in pairs),
        "loop_samples_per_s": statistics.median(hand for _, hand in pairs),
        "median_ratio": statistics.median(tool / hand for tool, hand in pairs),
    }


def main() -> None:
    """Measure every example, print the table, write the results."""
    rows = [measure(name, size) for name, size in SIZES.items()]
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
    write_results("throughput_against_loop", rows)


if __name__ == "__main__":
    main()
