"""Runs a script as it is, and writes the loss of each optimizer step with its time; then ends it.

Run: python follow.py OUT SECONDS SEED SCRIPT ARGS... It shares no code with the tool. The variable
FOLLOW_SETTINGS has lines that are run for each parameter group before the first step.
"""

import json
import os
import random
import runpy
import sys
import time
from pathlib import Path

import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

OUT, SECONDS, SEED = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
losses: list[float] = []
steps: list[tuple[float, float]] = []
began = [0.0]
backward, seed_torch, seed_random = torch.Tensor.backward, torch.manual_seed, random.seed


def watch_backward(loss: torch.Tensor, *args: object, **kwargs: object) -> None:
    """Note the loss, and when the first backward pass began."""
    if loss.numel() == 1:
        losses.append(float(loss.detach()))
    began[0] = began[0] or time.perf_counter()
    backward(loss, *args, **kwargs)


def apply_settings(optimizer: torch.optim.Optimizer, *_: object) -> None:
    """Do before the first step what the advice says to set in the script."""
    if not steps:
        for group in optimizer.param_groups:
            exec(os.environ.get("FOLLOW_SETTINGS", ""), {"group": group})


def watch_step(*_: object) -> None:
    """Note the step; after the last one write, and end the process as it stands."""
    if losses:
        steps.append((time.perf_counter() - began[0], sum(losses) / len(losses)))
        losses.clear()
    if steps and steps[-1][0] > SECONDS:
        OUT.write_text(json.dumps(steps))
        os._exit(0)


torch.Tensor.backward = watch_backward
torch.manual_seed = torch.random.manual_seed = lambda seed: seed_torch(seed + SEED)
random.seed = lambda seed=None, *more: seed_random(seed if seed is None else seed + SEED, *more)
register_optimizer_step_pre_hook(apply_settings)
register_optimizer_step_post_hook(watch_step)
seed_torch(SEED)
sys.argv = sys.argv[4:]
sys.path[0] = str(Path(sys.argv[0]).resolve().parent)
runpy.run_path(sys.argv[0], run_name="__main__")
OUT.write_text(json.dumps(steps))
