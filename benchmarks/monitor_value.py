"""A monitor's value beside a measurement at frozen parameters, over seeds.

A teacher's samples are endless. Each seed trains a small network, has a monitor see 96 steps at
the parameters that this led to (the rate is then 0) or on the way from there, and measures the
noise scale at the parameters of the middle step as the tool does at a checkpoint: 16 gradients, an
interval by the jackknife. On ranks two processes train with DistributedDataParallel.

A second part trains a small transformer and compares the noise scale of its normalisation layers,
by single examples, with that of the whole gradient, by micro-batches, along training.

Run it from anywhere: `python benchmarks/monitor_value.py`. It prints a table and writes
`results/monitor_value.json`.
"""

import argparse
import contextlib
import copy
import json
import math
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from monitor_layers import run_transformer
from results import write_results
from rich.console import Console
from rich.table import Table
from torch import Tensor, distributed, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from advisor import NoiseScaleMonitor
from advisor.in_loop.data import NoiseScale
from advisor.noise.data import GradientMoments, NoiseBatches, NoisePoint
from advisor.noise.point import estimate_noise_point

#: Steps before a monitor sees any, and those that it sees.
BURN_IN_STEPS, SEEN_STEPS = 15, 96
#: Samples of a step, and gradients of the frozen measurement with the samples of each: the monitor
#: sees 12 times as many, so that the interval is nearly the other one's alone.
BATCH, GROUPS, GROUP_SAMPLES = 64, 16, 32
INPUTS, WIDTH = 12, 24
TARGET_FRACTION = 0.93


@dataclass(frozen=True)
class Setting:
    """How a seed trains."""

    name: str
    passes: int = 1
    rate: float = 0.0
    ranks: int = 1


SETTINGS = (
    Setting("2 micro-batches, parameters that stay", passes=2),
    Setting("single examples, parameters that stay"),
    Setting("2 micro-batches, while it trains", passes=2, rate=0.0005),
    Setting("2 ranks, parameters that stay", ranks=2),
)


def make_model(seed: int) -> nn.Sequential:
    """Return a network with a normalisation layer."""
    torch.manual_seed(seed)
    layers = [nn.Linear(INPUTS, WIDTH), nn.LayerNorm(WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1)]
    return nn.Sequential(*layers)


class Teacher:
    """Draws samples without end; ranks draw their own."""

    def __init__(self, seed: int, rank: int = 0) -> None:
        self._direction = torch.randn(INPUTS, 1, generator=torch.Generator().manual_seed(seed))
        self._generator = torch.Generator().manual_seed(1_000_003 * (rank + 1) + seed)

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Return inputs and noisy targets."""
        inputs = torch.randn(count, INPUTS, generator=self._generator)
        noise = torch.randn(count, 1, generator=self._generator)
        return inputs, inputs @ self._direction + noise


def lose(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the loss."""
    loss: Tensor = nn.functional.mse_loss(model(batch[0]), batch[1])
    return loss


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    teacher: Teacher,
    passes: int,
    steps: int,
    keep: dict[int, dict[str, Tensor]] | None = None,
) -> None:
    """Take steps, keeping the parameters at each of `keep`."""
    samples = (
        BATCH // passes // (distributed.get_world_size() if distributed.is_initialized() else 1)
    )
    for step in range(steps):
        if keep is not None and step in keep:
            keep[step] = copy.deepcopy(model.state_dict())
        optimizer.zero_grad()
        for number in range(passes):
            is_apart = (
                isinstance(model, nn.parallel.DistributedDataParallel) and number < passes - 1
            )
            with model.no_sync() if is_apart else contextlib.nullcontext():
                (lose(model, teacher.draw(samples)) / passes).backward()
        optimizer.step()


def measure_frozen(model: nn.Sequential, teacher: Teacher, *, of_layer: bool) -> NoisePoint:
    """Return the noise scale at these parameters, of the normalisation layer or of all."""
    weights = list((model[1] if of_layer else model).parameters())
    sums = []
    for _ in range(GROUPS):
        gradients = torch.autograd.grad(lose(model, teacher.draw(GROUP_SAMPLES)), weights)
        sums.append(GROUP_SAMPLES * torch.cat([each.flatten() for each in gradients]).double())
    rows = torch.stack(sums)
    total = rows.sum(0)
    moments = GradientMoments(
        group_sqnorms=tuple(rows.square().sum(1).tolist()),
        group_dots=tuple((rows @ total).tolist()),
        total_sqnorm=float(total @ total),
    )
    batches = NoiseBatches(
        at_step=0, loss=0.0, micro_batch_sizes=(GROUP_SAMPLES,) * GROUPS, plain=moments
    )
    return estimate_noise_point(batches)


def run_seed(setting: Setting, seed: int, rank: int = 0) -> tuple[NoiseScale, NoisePoint]:
    """Return the monitor's value and the frozen measurement."""
    teacher, own = Teacher(seed, rank), make_model(seed)
    model = nn.parallel.DistributedDataParallel(own) if setting.ranks > 1 else own
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    train(model, optimizer, teacher, setting.passes, BURN_IN_STEPS)
    optimizer.param_groups[0]["lr"] = setting.rate
    keep: dict[int, dict[str, Tensor]] = {SEEN_STEPS // 2: {}}
    monitor = NoiseScaleMonitor(model, optimizer, every=1, window=SEEN_STEPS)
    with monitor:
        train(model, optimizer, teacher, setting.passes, SEEN_STEPS, keep)
    (parameters,) = keep.values()
    model.load_state_dict(parameters)
    value = monitor.value
    assert value is not None
    frozen = measure_frozen(own, Teacher(seed, rank=9), of_layer=value.estimator == "per-example")
    return value, frozen


def run_setting(setting: Setting, seeds: int, rank: int = 0) -> dict[str, object]:
    """Return how often the value lies within the frozen interval, and their ratio."""
    held, ratios, overlap = 0, [], 0
    for seed in range(seeds):
        value, frozen = run_seed(setting, seed, rank)
        interval = frozen.noise_scale
        assert value.noise_scale is not None
        low = -math.inf if interval.low is None else interval.low
        high = math.inf if interval.high is None else interval.high
        held += low <= value.noise_scale <= high
        overlap += (value.low or 0.0) <= high and low <= (value.high or math.inf)
        if interval.point is not None:
            ratios.append(value.noise_scale / interval.point)
    return {
        "setting": setting.name,
        "estimator": value.estimator,
        "seeds": seeds,
        "samples_seen": value.samples_seen,
        "frozen_samples": GROUPS * GROUP_SAMPLES,
        "held_fraction": held / seeds,
        "overlap_fraction": overlap / seeds,
        "median_ratio": float(np.median(ratios)),
        "last_noise_scale": value.noise_scale,
    }


def run_rank(rank: int, store: str, seeds: int) -> None:
    """Run the setting of two ranks; the first prints it."""
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    found = run_setting(SETTINGS[-1], seeds, rank)
    if rank == 0:
        print(json.dumps(found))
    distributed.barrier()
    distributed.destroy_process_group()


def run_ranks(seeds: int) -> dict[str, object]:
    """Return what the first of two ranks found."""
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        command = [sys.executable, __file__, "--seeds", str(seeds), "--store", store, "--rank"]
        ranks = [
            subprocess.Popen([*command, str(rank)], stdout=subprocess.PIPE, text=True)
            for rank in range(2)
        ]
        said, _ = (rank.communicate()[0] for rank in ranks)
        found: dict[str, object] = json.loads(said)
        return found


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=100, help="seeds of each setting")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rank is not None:
        run_rank(arguments.rank, arguments.store, arguments.seeds)
        return
    rows = []
    for setting in SETTINGS:
        is_alone = setting.ranks == 1
        rows.append(
            run_setting(setting, arguments.seeds) if is_alone else run_ranks(arguments.seeds)
        )
        print(rows[-1], file=sys.stderr)
        write_results("monitor_value", {"target_fraction": TARGET_FRACTION, "rows": rows})
    table = Table("setting", "told from", "within the frozen interval", "value / frozen")
    for row in rows:
        table.add_row(
            str(row["setting"]),
            str(row["estimator"]),
            f"{row['held_fraction']:.0%}",
            f"{row['median_ratio']:.2f}",
        )
    Console().print(table)
    payload = {
        "target_fraction": TARGET_FRACTION,
        "rows": rows,
        "transformer": run_transformer(steps=64, checks=4),
    }
    print(write_results("monitor_value", payload))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
