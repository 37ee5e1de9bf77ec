"""What NoiseScaleMonitor adds to a step, amortised at the interval that it chooses.

A monitor chooses its interval of k steps, which may change as it goes; a block of k steps of which
one is measured and two blocks without a monitor take turns in one process, in each order; on two
ranks in two processes, by blocks of 4 k steps. The ratio is to the mean of the two, and that of one
to the other shows what the machine adds by itself. The time is the processor's, of the thread that
trains (of the process on ranks, whose exchange has threads), so that neighbours count little; the
wall clock's stands beside it. Blocks in which one of 8 steps is measured take turns as well, and
what that one adds is divided by k.

Run it from anywhere: `python benchmarks/monitor_cost.py`. It prints a table and writes
`results/monitor_cost.json`.
"""

import contextlib
import itertools
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

#: Seconds of either kind of blocks, the least turns, and measured steps before k stands.
LOOP_S, LEAST_TURNS, SETTLED = 90.0, 10, 9
#: Steps of a short interval, and after a block's last, which find the caches as it left them.
SHORT, AFTER = 8, 2
#: Turns on ranks, and intervals of a block there, at whose end a monitor waits for the others.
RANK_TURNS, RANK_INTERVALS = 90, 4
#: The orders in which a block with a monitor and two without are timed.
ORDERS = tuple(itertools.permutations(("monitored", "plain", "again")))


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


def measure(loop: Loop, clock: Callable[[], float], turns: int | None = None) -> dict[str, object]:
    """Return the ratio of k steps with a monitor to k without, in blocks that take turns.

    Ranks need the same number of turns.
    """
    loop.train(5)
    monitor = NoiseScaleMonitor(loop.model, loop.optimizer)
    with monitor:
        while len(monitor.entries) < SETTLED:
            loop.train(1)

    taken = take_turns(loop, monitor, clock, turns)
    short = take_turns(
        loop,
        NoiseScaleMonitor(loop.model, loop.optimizer, every=SHORT),
        clock,
        turns and 2 * turns,
    )
    every = statistics.median(turn.every for turn in taken)
    found = {
        "ratio": bound_median([turn.ratio for turn in taken]),
        "without_ratio": bound_median([turn.without_ratio for turn in taken]),
        "wall_ratio": bound_median([turn.wall_ratio for turn in taken]),
        "resolved_ratio": tuple(
            1.0 + (each - 1.0) * SHORT / every
            for each in bound_median([turn.ratio for turn in short])
        ),
    }
    return {
        "loop": loop.name,
        "estimator": monitor.estimator,
        "every": every,
        "turns": len(taken),
        "short_turns": len(short),
        "step_s": statistics.median(turn.step_s for turn in taken),
        "told_cost_fraction": monitor.cost_fraction,
        **{name: middle for name, (_, middle, _) in found.items()},
        **{f"{name}_interval": [low, high] for name, (low, _, high) in found.items()},
    }


@dataclass(frozen=True)
class Turn:
    """What one block with a monitor and two without took.

    Attributes:
        every: Steps of an interval.
        step_s: Seconds of a step without.
        ratio: With the monitor over without.
        without_ratio: One block without over the other.
        wall_ratio: As `ratio`, by the wall clock.
    """

    every: int
    step_s: float
    ratio: float
    without_ratio: float
    wall_ratio: float


def take_turns(
    loop: Loop, monitor: NoiseScaleMonitor, clock: Callable[[], float], turns: int | None
) -> list[Turn]:
    """Return so many turns, else those of `LOOP_S`."""
    found: list[Turn] = []
    ends_s = time.monotonic() + LOOP_S
    while len(found) < (turns or LEAST_TURNS) or (not turns and time.monotonic() < ends_s):
        every = monitor.every
        steps = every * (RANK_INTERVALS if turns else 1)
        times_s, wall_times_s = {}, {}
        for kind in ORDERS[len(found) % len(ORDERS)]:
            began_s, began_wall_s = clock(), time.perf_counter()
            with monitor if kind == "monitored" else contextlib.nullcontext():
                loop.train(steps)
            loop.train(AFTER)
            times_s[kind] = clock() - began_s
            wall_times_s[kind] = time.perf_counter() - began_wall_s
        found.append(
            Turn(
                every=every,
                step_s=times_s["plain"] / (steps + AFTER),
                ratio=compare(times_s, steps),
                without_ratio=times_s["again"] / times_s["plain"],
                wall_ratio=compare(wall_times_s, steps),
            )
        )
    return found


def compare(times_s: dict[str, float], steps: int) -> float:
    """Return steps with the monitor over steps without, from blocks of `AFTER` more."""
    without_s = (times_s["plain"] + times_s["again"]) / 2.0
    return 1.0 + (times_s["monitored"] - without_s) / without_s * (steps + AFTER) / steps


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
    found = measure(loop, time.process_time, RANK_TURNS)
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
    table = Table("loop", "told from", "step", "every", "told", "with", "without", "resolved")
    for found in results:
        table.add_row(
            str(found["loop"]),
            str(found["estimator"]),
            f"{1e3 * found['step_s']:.2f} ms",  # type: ignore[operator]
            f"{found['every']}",
            f"{found['told_cost_fraction']:.4f}",
            *(
                "{:.4f} ({:.4f} to {:.4f})".format(found[name], *found[f"{name}_interval"])  # type: ignore[misc]
                for name in ("ratio", "without_ratio", "resolved_ratio")
            ),
        )
    Console().print(table)


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    if len(sys.argv) > 1:
        run_rank(int(sys.argv[1]), sys.argv[2])
    else:
        main()
