"""What NoiseScaleMonitor adds to a step, amortised at the interval that it chooses.

A monitor chooses its interval of k steps, which may change as it goes; 4 k steps with four that are
measured and as many without a monitor take turns in one process, on two ranks in two. The time is
the processor's, of the thread that trains (of the process on ranks, whose exchange has threads), so
that neighbours count little; the wall clock's stands beside it. Neighbours still move such a ratio
by a per cent: so blocks in which one of 8 steps is measured take turns as well, and what that one
adds is divided by k.

Run it from anywhere: `python benchmarks/monitor_cost.py`. It prints a table and writes
`results/monitor_cost.json`.
"""

import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from results import write_results
from rich.console import Console
from rich.table import Table
from torch import distributed, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from advisor import NoiseScaleMonitor

#: Seconds of either kind of blocks, the least pairs, and measured steps before k stands.
LOOP_S, LEAST_PAIRS, SETTLED = 35.0, 10, 9
#: Intervals of a block, at whose end a monitor waits for its ranks; steps of a short interval.
INTERVALS, SHORT = 4, 8
#: Pairs of blocks on ranks.
RANK_PAIRS = 40


@dataclass(frozen=True)
class Loop:
    """A training of so many steps on batches that are there."""

    name: str
    model: nn.Module
    optimizer: torch.optim.Optimizer
    train: Callable[[int], None]


class Block(nn.Module):
    """A block of a transformer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(width, 4, 4 * width, 0.0, batch_first=True)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return what comes out."""
        return self.layer(inputs)


def make_loop(
    name: str, model: nn.Module, inputs: torch.Tensor, passes: int, wrapped: nn.Module | None = None
) -> Loop:
    """Return a loop of so many backward passes for each step."""
    called = wrapped or model
    optimizer = torch.optim.AdamW(called.parameters(), lr=1e-4)
    with torch.no_grad():
        targets = model(inputs) + 1.0

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            for number in range(passes):
                is_last = wrapped is None or number == passes - 1
                with contextlib.nullcontext() if is_last else called.no_sync():
                    loss = nn.functional.mse_loss(called(inputs), targets)
                    (loss / passes).backward()
            nn.utils.clip_grad_norm_(called.parameters(), 1.0)
            optimizer.step()

    return Loop(name, called, optimizer, train)


def make_perceptron() -> nn.Module:
    """Return two layers."""
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))


def make_loops() -> list[Loop]:
    """Return the loops of one process."""
    images = torch.randn(32, 3, 24, 24)
    layers = [nn.Conv2d(3, 32, 3), nn.GroupNorm(4, 32), nn.ReLU(), nn.Conv2d(32, 64, 3, 2)]
    convolutional = nn.Sequential(*layers, nn.GroupNorm(4, 64), nn.ReLU(), nn.Flatten(1))
    transformer = nn.Sequential(Block(128), Block(128))
    words = torch.randn(8, 32, 128)
    return [
        make_loop("perceptron, 4 micro-batches", make_perceptron(), torch.randn(64, 64), 4),
        make_loop("convolutional, one pass", convolutional, images, 1),
        make_loop("transformer, one pass", transformer, words, 1),
    ]


def measure(loop: Loop, clock: Callable[[], float], pairs: int | None = None) -> dict[str, object]:
    """Return the ratio of k steps with a monitor to k without, in blocks that take turns.

    Ranks need the same number of pairs.
    """
    loop.train(5)
    monitor = NoiseScaleMonitor(loop.model, loop.optimizer)
    with monitor:
        while len(monitor.entries) < SETTLED:
            loop.train(1)

    plain, ratios, wall_ratios, intervals = take_turns(loop, monitor, clock, pairs)
    short = NoiseScaleMonitor(loop.model, loop.optimizer, every=SHORT)
    _, short_ratios, _, _ = take_turns(loop, short, clock, pairs and 4 * pairs)
    every = statistics.median(intervals)
    resolved = [1.0 + (each - 1.0) * SHORT / every for each in bound_median(short_ratios)]
    low, middle, high = bound_median(ratios)
    wall_low, wall, wall_high = bound_median(wall_ratios)
    return {
        "loop": loop.name,
        "estimator": monitor.estimator,
        "every": every,
        "pairs_of_blocks": len(ratios),
        "step_s": statistics.median(plain),
        "told_cost_fraction": monitor.cost_fraction,
        "ratio": middle,
        "ratio_interval": [low, high],
        "wall_ratio": wall,
        "wall_ratio_interval": [wall_low, wall_high],
        "short_pairs": len(short_ratios),
        "resolved_ratio": resolved[1],
        "resolved_ratio_interval": [resolved[0], resolved[2]],
    }


def take_turns(
    loop: Loop, monitor: NoiseScaleMonitor, clock: Callable[[], float], pairs: int | None
) -> tuple[list[float], list[float], list[float], list[int]]:
    """Return seconds of a step without the monitor, ratios of blocks, and steps of an interval.

    The ratios are the clock's, and the wall clock's.
    """
    plain, ratios, wall_ratios, intervals = [], [], [], []
    ends_s = time.monotonic() + LOOP_S
    while len(ratios) < (pairs or LEAST_PAIRS) or (not pairs and time.monotonic() < ends_s):
        every, taken = monitor.every, {}
        for is_monitored in (False, True) if len(ratios) % 2 else (True, False):
            began_s, began_wall_s = clock(), time.perf_counter()
            with monitor if is_monitored else contextlib.nullcontext():
                loop.train(INTERVALS * every)
            taken[is_monitored] = clock() - began_s, time.perf_counter() - began_wall_s
        plain.append(taken[False][0] / (INTERVALS * every))
        ratios.append(taken[True][0] / taken[False][0])
        wall_ratios.append(taken[True][1] / taken[False][1])
        intervals.append(every)
    return plain, ratios, wall_ratios, intervals


def bound_median(values: list[float]) -> tuple[float, float, float]:
    """Return the median within its 95 % interval, from order statistics."""
    ordered, half = sorted(values), 0.98 * len(values) ** 0.5
    middle = len(values) / 2.0
    low, high = max(0, round(middle - half)), min(len(values) - 1, round(middle + half))
    return ordered[low], statistics.median(values), ordered[high]


def run_rank(rank: int, store: str) -> None:
    """Measure a loop of DistributedDataParallel on one of two ranks; the first prints it."""
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 256))
    wrapped = nn.parallel.DistributedDataParallel(model)
    name = "perceptron, DistributedDataParallel on 2 ranks"
    loop = make_loop(name, model, torch.randn(128, 256), 1, wrapped)
    found = measure(loop, time.process_time, RANK_PAIRS)
    if rank == 0:
        print(json.dumps(found))
    distributed.barrier()
    distributed.destroy_process_group()


def measure_ranks() -> dict[str, object]:
    """Return what the first of two ranks found."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__]
        ranks = [
            subprocess.Popen(
                [*command, str(rank), str(Path(folder) / "store")],
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        said, _ = (rank.communicate()[0] for rank in ranks)
        found: dict[str, object] = json.loads(said)
        return found


def main() -> None:
    """Measure, print and keep the result."""
    results = []
    for measured in (
        *(partial(measure, loop, time.thread_time) for loop in make_loops()),
        measure_ranks,
    ):
        results.append(measured())
        print(results[-1], file=sys.stderr)
        write_results("monitor_cost", {"loops": results})
    table = Table("loop", "told from", "step", "every", "told", "with the monitor", "resolved")
    for found in results:
        low, high = found["ratio_interval"]  # type: ignore[misc]
        table.add_row(
            str(found["loop"]),
            str(found["estimator"]),
            f"{1e3 * found['step_s']:.2f} ms",  # type: ignore[operator]
            f"{found['every']}",
            f"{found['told_cost_fraction']:.4f}",
            f"{found['ratio']:.4f} ({low:.4f} to {high:.4f})",
            f"{found['resolved_ratio']:.4f}",
        )
    Console().print(table)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if len(sys.argv) > 1:
        run_rank(int(sys.argv[1]), sys.argv[2])
    else:
        main()
