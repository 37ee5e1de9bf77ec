"""What the hooks cost that see the steps of a user's own script, for each step.

Run: python benchmarks/script_hooks.py

One process runs blocks of one loop in turns, with the hooks of a timed start and without; the
median of the ratios of neighbours is reported. The loops are those that people write: the smallest
that anyone trains, one with loader, clipping and schedule as `examples/train_digits.py` has it, and
a small convolutional network. The hooks cost some time for each step whatever its length, so the
smallest is the hardest.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from results import write_results
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.utils import clip_grad
from torch.optim import lr_scheduler
from torch.optim import optimizer as torch_optimizer
from torch.utils.data import DataLoader, TensorDataset, dataloader

from advisor.training.observer import Step
from advisor.training.script.hooks import watch_loading, watch_steps
from advisor.training.script.sizes import Sizes
from advisor.training.script.stream import StepStream

#: Of both loops; a block takes about so long.
REPETITIONS, BLOCK_S = 101, 0.05


class Loop(NamedTuple):
    """A training that goes on by some steps at a time."""

    name: str
    train: Callable[[int], None]


class _Going:
    """Watches, and never has enough."""

    def before_step(self, step: Step) -> None:
        """See nothing."""

    def after_step(self, step: Step) -> bool:  # noqa: ARG002
        """Go on."""
        return True


def list_patched() -> list[tuple[Any, str]]:
    """Return what the hooks replace."""
    schedules = [
        (kind, "step")
        for kind in vars(lr_scheduler).values()
        if isinstance(kind, type) and "step" in vars(kind)
    ]
    return [
        (torch.autograd, "backward"),
        (torch.amp.GradScaler, "scale"),
        (torch.amp.GradScaler, "step"),
        (clip_grad, "_clip_grads_with_norm_"),
        (clip_grad, "clip_grad_value_"),
        (torch.nn.utils, "clip_grad_value_"),
        (dataloader._BaseDataLoaderIter, "__next__"),  # noqa: SLF001
        *schedules,
    ]


@contextlib.contextmanager
def hooked() -> Iterator[None]:
    """See the steps as a timed start of a script does, until the block is left."""
    kept = [(owner, name, getattr(owner, name)) for owner, name in list_patched()]
    stream, sizes = StepStream([_Going()], samples=32, most_steps=None), Sizes()
    watch_steps(stream, lambda act: act(), on_pass=lambda: None, on_enough=lambda: None)
    watch_loading(stream, sizes)
    sizes.is_known = True  # as after the first backward pass
    try:
        yield
    finally:
        for owner, name, value in kept:
            setattr(owner, name, value)
        torch_optimizer._global_optimizer_pre_hooks.clear()  # noqa: SLF001
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
    """Return a step's seconds without the hooks, and the median ratio with them."""
    loop.train(20)
    steps = max(1, round(20 * BLOCK_S / time_block(loop, 20)))
    plain, ratios = [], []
    for repetition in range(REPETITIONS):
        order = (False, True) if repetition % 2 else (True, False)
        taken = {is_hooked: time_block(loop, steps, is_hooked=is_hooked) for is_hooked in order}
        plain.append(taken[False] / steps)
        ratios.append(taken[True] / taken[False])
    low, middle, high = statistics.quantiles(ratios, n=4)
    step_s = statistics.median(plain)
    return {
        "loop": loop.name,
        "steps_per_block": steps,
        "step_s": step_s,
        "ratio": middle,
        "ratio_quartiles": [low, high],
        "cost_per_step_s": (middle - 1.0) * step_s,
    }


def time_block(loop: Loop, steps: int, *, is_hooked: bool = False) -> float:
    """Return the seconds of some steps."""
    with hooked() if is_hooked else contextlib.nullcontext():
        start = time.thread_time()  # on the CPU all of a step runs in this thread
        loop.train(steps)
        return time.thread_time() - start


def main() -> None:
    """Measure, print and keep the result."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    results = [measure(make()) for make in (make_smallest, make_loading, make_convolutional)]
    table = Table("loop", "step", "with hooks", "cost of a step")
    for found in results:
        table.add_row(
            str(found["loop"]),
            f"{1e6 * found['step_s']:.0f} us",  # type: ignore[operator]
            f"{found['ratio']:.4f}",
            f"{1e6 * found['cost_per_step_s']:.1f} us",  # type: ignore[operator]
        )
    Console().print(table)
    write_results("script_hooks", results)


if __name__ == "__main__":
    main()
