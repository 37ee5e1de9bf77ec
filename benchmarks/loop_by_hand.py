"""A training loop as anyone writes it, in a process of its own: what the tool is compared with.

Run: python benchmarks/loop_by_hand.py MODEL.py BATCH [--device cuda] [--block 0.25] [--blocks 7]

It knows nothing of the tool. On a CUDA device its blocks are timed by events in the device's own
stream, elsewhere by the clock. The last line of its output is JSON: seconds of a step, one figure
for each block.
"""

import argparse
import importlib.util
import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

WARMUP_S = 1.0
#: The first step makes contexts and the optimizer's state, the second alone tells what one takes.
LEAST_WARMUP_WINDOWS = 4

Step = Callable[[], None]


def load_model_file(path: Path) -> Any:
    """Return the model file as a module."""
    spec = importlib.util.spec_from_file_location("user_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_loop(user: Any, size: int, device: torch.device) -> Step:
    """Return one training step on a batch that is on the device already."""
    torch.manual_seed(0)
    model = user.make_model().to(device).train()
    if hasattr(user, "make_optimizer"):
        optimizer = user.make_optimizer(model)
    else:
        optimizer = torch.optim.AdamW(model.parameters())
    batch = user.make_batch(size)
    is_tensor = isinstance(batch, torch.Tensor)
    batch = batch.to(device) if is_tensor else tuple(part.to(device) for part in batch)

    def step() -> None:
        if hasattr(user, "loss_fn"):
            loss = user.loss_fn(model, batch)
        else:
            inputs, targets = batch
            loss = functional.cross_entropy(model(inputs).flatten(0, -2), targets.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def time_block_by_events(step: Step, count: int) -> float:
    """Return the seconds of a step, as the CUDA device's own stream had them."""
    began = torch.cuda.Event(enable_timing=True)
    ended = torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    began.record()
    for _ in range(count):
        step()
    ended.record()
    torch.cuda.synchronize()
    return began.elapsed_time(ended) / 1000.0 / count  # elapsed_time is in milliseconds


def time_block_by_clock(step: Step, count: int) -> float:
    """Return the seconds of a step, by the clock."""
    began_s = time.perf_counter()
    for _ in range(count):
        step()
    return (time.perf_counter() - began_s) / count


def time_loop(
    step: Step,
    time_block: Callable[[Step, int], float],
    *,
    block_s: float,
    blocks: int,
    warmup_s: float = WARMUP_S,
) -> list[float]:
    """Return the seconds of a step in each block, after warming up."""
    count, ends_s = 1, time.perf_counter() + warmup_s
    for window in itertools.count(1):
        count = max(1, round(block_s / time_block(step, count)))
        if window >= LEAST_WARMUP_WINDOWS and time.perf_counter() >= ends_s:
            break
    return [time_block(step, count) for _ in range(blocks)]


def main() -> None:
    """Time the loop and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("batch", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--block", type=float, default=0.25, help="seconds of a block")
    parser.add_argument("--blocks", type=int, default=7)
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    if device.type == "cuda":
        torch.cuda.set_device(device.index or 0)  # the events belong to the current device
    step = write_loop(load_model_file(arguments.model), arguments.batch, device)
    time_block = time_block_by_events if device.type == "cuda" else time_block_by_clock
    times_s = time_loop(step, time_block, block_s=arguments.block, blocks=arguments.blocks)
    print(json.dumps({"step_times_s": times_s}))


if __name__ == "__main__":
    main()
