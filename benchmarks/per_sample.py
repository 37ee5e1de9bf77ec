"""Whether per-sample gradients (torch.func) make the noise scale cheaper than plain passes.

Run: python benchmarks/per_sample.py

Two figures decide. What a sample costs: the seconds of `vmap(grad)` at its best chunk size, over
those of the worker's own pass, on the same micro-batches; their sums of gradients are compared, so
that both are known to be the same. And what a sample is worth: how much narrower the interval is
with one mean for each sample, as the number of samples that the other ways would need for the same
width: one mean for each of 16 groups, as the worker has it, or one for each micro-batch of 16,
whose squared norm costs one pass over the gradient. The route pays where it costs less than both.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gaussian_regression import Setting, draw_gradients, make_world, pool_moments
from results import write_results
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from advisor.noise.data import NoiseBatches
from advisor.noise.measure_metric import trained_parameters
from advisor.noise.measure_moments import GroupSums
from advisor.noise.point import estimate_noise_point
from advisor.training.data import WorkloadSpec
from advisor.training.heap import keep_freed_memory
from advisor.training.loop import train
from advisor.training.model_file.batches import map_tensors
from advisor.training.model_file.workload import Workload
from advisor.training.training import Training

HERE = Path(__file__).parent
MODELS = (
    "../examples/digits.py",
    "../examples/char_lm.py",
    "../examples/convnet.py",
    "models/perceptron.py",
    "models/convolutions.py",
    "models/embedding.py",
    "models/recurrent.py",
    "models/residual.py",
    "models/tied.py",
    "models/transformer.py",
)
MICRO_BATCH_SIZE, MICRO_BATCHES, GROUPS = 32, 16, 16
#: Samples of the small micro-batches whose norms are the other way.
SMALL = 16
CHUNKS = (4, 8, 16, 32)
#: Relative difference of the two sums of gradients that float32 arithmetic may leave.
EQUAL_FRACTION = 1e-3
SETTINGS = (
    Setting(name="1/k spectrum", samples_per_noise_scale=5.12),
    Setting(name="flat spectrum", decay=0.0, samples_per_noise_scale=5.12),
    Setting(name="steep spectrum", decay=2.0, samples_per_noise_scale=10.24),
    Setting(name="few parameters", dimension=5, samples_per_noise_scale=10.24),
    Setting(name="many parameters", dimension=200, samples_per_noise_scale=5.12),
)

Route = Callable[[], Tensor]


class LossModule(nn.Module):
    """The user's loss as a module, so that its parameters can be arguments."""

    def __init__(self, training: Training) -> None:
        super().__init__()
        self.model = training.model
        self._training = training

    def forward(self, batch: Any) -> Tensor:
        """Return the loss of the batch."""
        return self._training.loss(batch)


def sum_plainly(training: Training, batches: list[Any]) -> Tensor:
    """Return the sum over all samples, as the worker takes it."""
    sums = GroupSums(training, GROUPS, MICRO_BATCH_SIZE, rounds=len(batches) // GROUPS)
    train(training, iter(batches), [sums], micro_batch_size=MICRO_BATCH_SIZE, is_frozen=True)
    sums.finish(0, per_sample_sum=False)
    return sums._rows._store[0].sum(dim=0)  # noqa: SLF001 - compared, to show that both routes agree


def sum_per_sample(training: Training, batches: list[Any], chunk: int) -> Tensor:
    """Return the same sum, having taken every sample's squared norm on the way."""
    module = LossModule(training)
    moved = {id(parameter) for parameter in trained_parameters(training)}
    named = dict(module.named_parameters())
    parameters = {name: p.detach() for name, p in named.items() if id(p) in moved}

    def loss(parameters: dict[str, Tensor], sample: Any) -> Tensor:
        batch = map_tensors(sample, lambda tensor: tensor.unsqueeze(0))
        return functional_call(module, parameters, (batch,))

    differentiate = vmap(grad(loss), in_dims=(None, 0), randomness="different")
    norms = []
    total = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for batch in batches:
        for start in range(0, MICRO_BATCH_SIZE, chunk):
            part = slice(start, start + chunk)
            gradients = differentiate(parameters, map_tensors(batch, lambda t, p=part: t[p]))
            norms.append(sum(g.flatten(1).square().sum(1) for g in gradients.values()))
            for name, gradient in gradients.items():
                total[name] += gradient.sum(0)
    return torch.cat([value.flatten() for value in total.values()])


def time_route(route: Route, repetitions: int) -> float:
    """Return the median seconds of the route, after one run that does not count."""
    route()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        route()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def measure(name: str, repetitions: int) -> dict[str, object]:
    """Return what one sample costs by each route."""
    workload = Workload(WorkloadSpec(target=str((HERE / name).resolve()), device="cpu"))
    training = workload.make_training()
    generator = torch.Generator().manual_seed(0)
    batches = [workload.draw(MICRO_BATCH_SIZE, generator) for _ in range(MICRO_BATCHES)]
    samples = MICRO_BATCH_SIZE * MICRO_BATCHES
    plain_s = time_route(lambda: sum_plainly(training, batches), repetitions) / samples
    row: dict[str, object] = {"model": Path(name).name, "plain_s": plain_s}
    best_s, best_chunk = math.inf, None
    try:
        expected, found = sum_plainly(training, batches), sum_per_sample(training, batches, 32)
        difference = float((found - expected).norm() / expected.norm())
        for chunk in CHUNKS:
            route = lambda chunk=chunk: sum_per_sample(training, batches, chunk)  # noqa: E731
            seconds = time_route(route, repetitions) / samples
            if seconds < best_s:
                best_s, best_chunk = seconds, chunk
    except Exception as error:  # noqa: BLE001 - torch.func refuses in many ways
        return {**row, "refused_because": " ".join(str(error).split())[:100]}
    return {
        **row,
        "per_sample_s": best_s,
        "chunk": best_chunk,
        "cost_ratio": best_s / plain_s,
        "sum_difference_fraction": difference,
        "agrees": difference < EQUAL_FRACTION,
    }


def value_sample(setting: Setting, seeds: int) -> dict[str, object]:
    """Return how many times as many samples the other ways need for an interval as narrow."""
    world = make_world(setting)
    samples = (
        round(setting.samples_per_noise_scale * setting.noise_scale)
        // (GROUPS * SMALL)
        * (GROUPS * SMALL)
    )
    widths: dict[int, list[float]] = {samples: [], samples // SMALL: [], GROUPS: []}
    for seed in range(seeds):
        drawn = draw_gradients(setting, world, samples, seed)
        for count, kept in widths.items():
            size = samples // count
            means = drawn.reshape(count, size, -1).mean(axis=1)
            groups = [index * GROUPS // count for index in range(count)]
            scale = estimate_noise_point(
                NoiseBatches(
                    at_step=0,
                    loss=0.0,
                    micro_batch_sizes=(size,) * count,
                    groups=tuple(groups),
                    plain=pool_moments(means, [size] * count, groups),
                )
            ).noise_scale
            known = scale.high is not None and scale.low is not None and scale.low > 0.0
            kept.append(math.log(scale.high / scale.low) if known else math.inf)
    single, small, grouped = (float(np.median(kept)) for kept in widths.values())
    assert math.isfinite(single + small + grouped)
    return {
        "setting": setting.name,
        "worth_ratio": (grouped / single) ** 2,
        "worth_over_micro_batches_ratio": (small / single) ** 2,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--repetitions", type=int, default=5, help="timed runs of each route")
    parser.add_argument("--seeds", type=int, default=400, help="seeds of each setting")
    arguments = parser.parse_args()
    keep_freed_memory()
    worth = [value_sample(setting, arguments.seeds) for setting in SETTINGS]
    rows = [measure(name, arguments.repetitions) for name in MODELS]
    console = Console()
    table = Table("model", "plain (ms a sample)", "per sample", "chunk", "difference of the sums")
    for row in rows:
        if "cost_ratio" not in row:
            table.add_row(str(row["model"]), f"{1e3 * float(str(row['plain_s'])):.3f}",
                          f"refused: {row['refused_because']}", "", "")  # fmt: skip
            continue
        table.add_row(
            str(row["model"]), f"{1e3 * float(str(row['plain_s'])):.3f}",
            f"{row['cost_ratio']:.2f} x", str(row["chunk"]),
            f"{row['sum_difference_fraction']:.1e}",
        )  # fmt: skip
    console.print(table)
    for each in worth:
        console.print(
            f"{each['setting']}: worth {each['worth_ratio']:.2f} x over groups, "
            f"{each['worth_over_micro_batches_ratio']:.2f} x over micro-batches"
        )
    console.print(f"written: {write_results('per_sample', {'models': rows, 'worth': worth})}")


if __name__ == "__main__":
    main()
