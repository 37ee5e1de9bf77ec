"""What the hooks cost that see the steps of a user's own script, for each step.

Run: python benchmarks/script_hooks.py

One process runs blocks of one loop in turns: without hooks, with them in steps that are timed, and
with them where each step is watched, as in a trial, whose seconds are counted nowhere. The median
of the ratios of neighbours is reported. The loops are those that people write: the smallest that
anyone trains, one with loader, clipping and schedule as `examples/train_digits.py` has it, and a
small convolutional network. The hooks cost some time for each step whatever its length, so the
smallest is the hardest.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from results import write_results
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.optim import lr_scheduler
from torch.optim import optimizer as torch_optimizer
from torch.utils.data import DataLoader, TensorDataset

from advisor.throughput.measure_script import CLOCK_S
from advisor.training.observer import Observer
from advisor.training.script.hooks import watch_steps
from advisor.training.script.sizes import Sizes
from advisor.training.script.stream import StepStream

#: Of both loops; a block takes about so long.
REPETITIONS, BLOCK_S = 101, 0.05
#: By their order in a repetition, which is turned each time.
KINDS = ("plain", "timed", "watched")


class Loop(NamedTuple):
    """A training that goes on by some steps at a time."""

    name: str
    train: Callable[[int], None]


@contextlib.contextmanager
def hooked() -> Iterator[StepStream]:
    """See the steps as a start of a script does, until the block is left."""
    stream, sizes = StepStream([Observer()], samples=32, most_steps=None), Sizes()
    watch_steps(stream, sizes, lambda act: act())
    sizes.is_known = True  # as after the first backward pass
    try:
        yield stream
    finally:
        stream.time_steps(1)  # in which torch's own functions are in their places
        torch_optimizer._global_optimizer_post_hooks.clear()  # noqa: SLF001


def make_smallest() -> Loop:
    """Return a perceptron of two layers on tensors that are there already."""
    inputs = torch.randn(32, 16)
    targets = inputs.sum(1, keepdim=True)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(inputs), targets).backward()
            optimizer.step()

    return Loop("tiny perceptron", train)


def make_loading() -> Loop:
    """Return a loop with loader, clipping and schedule."""
    inputs = torch.randn(1500, 64)
    loader = DataLoader(TensorDataset(inputs, inputs[:, :10].argmax(1)), 32, shuffle=True)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)
    schedule = lr_scheduler.CosineAnnealingLR(optimizer, 10**6)
    batches = iter(loader)

    def train(steps: int) -> None:
        nonlocal batches
        for _ in range(steps):
            batch = next(batches, None)
            if batch is None:
                batches = iter(loader)
                batch = next(batches)
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()

    return Loop("digits with loader, clipping and schedule", train)


def make_convolutional() -> Loop:
    """Return a small convolutional network under AdamW."""
    inputs, targets = torch.randn(32, 3, 32, 32), torch.randint(0, 10, (32,))
    layers = [nn.Conv2d(3, 32, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(32, 64, 3), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))
    optimizer = torch.optim.AdamW(model.parameters())

    def train(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimizer.step()

    return Loop("convolutional network", train)


def measure(loop: Loop) -> dict[str, object]:
    """Return a step's seconds without the hooks, and the median ratios with them."""
    loop.train(20)
    known_s = time_block(loop, 20, "plain", every=1) / 20
    steps, every = max(1, round(BLOCK_S / known_s)), max(1, round(CLOCK_S / known_s))
    taken: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for repetition in range(REPETITIONS):
        turn = repetition % len(KINDS)
        for kind in KINDS[turn:] + KINDS[:turn]:
            taken[kind].append(time_block(loop, steps, kind, every=every) / steps)
    step_s = statistics.median(taken["plain"])
    found: dict[str, object] = {"loop": loop.name, "steps_per_block": steps, "step_s": step_s}
    for kind, name in (("timed", ""), ("watched", "watched_")):
        pairs = zip(taken[kind], taken["plain"], strict=True)
        low, middle, high = statistics.quantiles([own / plain for own, plain in pairs], n=4)
        found |= {
            f"{name}ratio": middle,
            f"{name}ratio_quartiles": [low, high],
            f"{name}cost_per_step_s": (middle - 1.0) * step_s,
        }
    return found


def time_block(loop: Loop, steps: int, kind: str, *, every: int) -> float:
    """Return the seconds of some steps after another one."""
    if kind == "plain":
        loop.train(2)
        return _time(loop, steps)
    with hooked() as stream:
        loop.train(1)
        if kind == "timed":
            stream.time_steps(steps + 2, every=every)
        loop.train(1)
        return _time(loop, steps)


def _time(loop: Loop, steps: int) -> float:
    start = time.thread_time()  # on the CPU all of a step runs in this thread
    loop.train(steps)
    return time.thread_time() - start


def main() -> None:
    """Measure, print and keep the result."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results = [measure(make()) for make in (make_smallest, make_loading, make_convolutional)]
    table = Table("loop", "step", "timed", "cost of a step", "watched", "cost of a step")
    for found in results:
        table.add_row(
            str(found["loop"]),
            f"{1e6 * found['step_s']:.0f} us",  # type: ignore[operator]
            *(
                text
                for name in ("", "watched_")
                for text in (
                    f"{found[name + 'ratio']:.4f}",
                    f"{1e6 * found[name + 'cost_per_step_s']:.1f} us",  # type: ignore[operator]
                )
            ),
        )
    Console().print(table)
    write_results("script_hooks", results)


if __name__ == "__main__":
    main()
