"""Coverage of the noise scale's interval where sums of gradients are kept as sketches.

On a `gaussian_regression` of many parameters, whose noise scale is known in closed form: the sums
of eight groups go into whole rows and into sketches of several lengths, by the worker's own code,
and each gives an interval. In a run a sketch has `SKETCH_LENGTH` numbers; here far fewer, so that
its error is large enough to be seen. Each seed has its own order of the parameters, as the sketch
has its signs by their places.

Run: python benchmarks/noise_sketches.py [--seeds 1000]. It writes `results/noise_sketches.json`.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from gaussian_regression import Floats, Setting, draw_gradients, make_world
from noise_coverage import COVERAGE_BAND, contains
from results import write_results
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.optim import SGD, Optimizer

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from advisor.noise.data import NoiseBatches, NoisePoint
from advisor.noise.measure_rows import SKETCH_LENGTH, SketchedRows, WholeRows
from advisor.noise.point import estimate_noise_point

GROUPS, DIMENSION = 8, 4096
#: Of the sketches; None are whole rows.
LENGTHS = (None, 4096, 1024, 256)
SETTINGS = (
    Setting(name="n = 4 φ", dimension=DIMENSION, decay=1.5),
    Setting(name="n = φ", dimension=DIMENSION, decay=1.5, samples_per_noise_scale=1.0),
    Setting(name="n = φ/4", dimension=DIMENSION, decay=1.5, samples_per_noise_scale=0.25),
    Setting(name="many alike", dimension=DIMENSION, decay=1.0, noise_scale=400.0),
    Setting(name="few large elements", dimension=DIMENSION, decay=2.0),
    Setting(name="t-distributed noise", dimension=DIMENSION, decay=1.5, heavy_tails=True),
)


class OneParameter:
    """A training of one vector of parameters in two tensors."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        sizes = (DIMENSION // 3, DIMENSION - DIMENSION // 3)
        self._parameters = [nn.Parameter(torch.zeros(size)) for size in sizes]
        self.optimizer: Optimizer = SGD(self._parameters, lr=0.1)

    def list_parameters(self) -> list[nn.Parameter]:
        """Return both."""
        return self._parameters


def estimate(
    rows: WholeRows | SketchedRows, training: OneParameter, sums: Floats, group_size: int
) -> NoisePoint:
    """Return the estimate by what the rows keep of the groups' sums."""
    for group, total in enumerate(sums):
        rows.begin(group)
        gradient = torch.from_numpy(total).float()
        rows.add(gradient.split([p.numel() for p in training.list_parameters()]), 1.0)
    plain, _ = rows.compute_moments(rows.find_finite(range(GROUPS)), 1.0)
    sizes = (group_size,) * GROUPS
    batches = NoiseBatches(at_step=0, loss=0.0, micro_batch_sizes=sizes, plain=plain)
    return estimate_noise_point(batches)


def run_setting(setting: Setting, seeds: int) -> Iterator[dict[str, object]]:
    """Yield a row for each way of keeping the sums."""
    world, training = make_world(setting), OneParameter()
    group_size = round(setting.samples_per_noise_scale * setting.noise_scale / GROUPS)
    points: dict[int | None, list[NoisePoint]] = {length: [] for length in LENGTHS}
    for seed in range(seeds):
        drawn = draw_gradients(setting, world, GROUPS * group_size, seed)
        drawn = drawn[:, np.random.default_rng(seed).permutation(DIMENSION)]
        sums = drawn.reshape(GROUPS, group_size, -1).sum(axis=1)
        for length, found in points.items():
            rows = (
                WholeRows(training, GROUPS, is_on_device=False)
                if length is None
                else SketchedRows(training, GROUPS, length=length)
            )
            found.append(estimate(rows, training, sums, group_size))
    exact = points[None]
    for length, found in points.items():
        traces = [point.gradient_cov_trace / world.cov_trace for point in found]
        off = [
            abs(point.gradient_cov_trace / whole.gradient_cov_trace - 1.0)
            for point, whole in zip(found, exact, strict=True)
        ]
        covered = sum(contains(point.noise_scale, setting.noise_scale) for point in found)
        yield {
            "name": setting.name,
            "parameters": DIMENSION,
            "sketch_length": length,
            "seeds": seeds,
            "noise_scale": setting.noise_scale,
            "samples": GROUPS * group_size,
            "coverage_fraction": covered / seeds,
            "cov_trace_bias_fraction": float(np.mean(traces)) - 1.0,
            "cov_trace_bias_standard_error_fraction": float(np.std(traces)) / math.sqrt(seeds),
            "median_error_against_whole_rows_fraction": float(np.median(off)),
        }


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=1000, help="seeds of each setting")
    arguments = parser.parse_args()
    rows = [row for setting in SETTINGS for row in run_setting(setting, arguments.seeds)]
    table = Table("setting", "sketch", "coverage", "bias of tr Σ", "tr Σ against whole rows")
    for row in rows:
        covered = float(str(row["coverage_fraction"]))
        outside = "" if COVERAGE_BAND[0] <= covered <= COVERAGE_BAND[1] else "*"
        table.add_row(
            str(row["name"]),
            str(row["sketch_length"] or "whole rows"),
            f"{covered:.3f}{outside}",
            f"{row['cov_trace_bias_fraction']:+.2%}",
            f"{row['median_error_against_whole_rows_fraction']:.2%}",
        )
    Console().print(table)
    written = write_results("noise_sketches", {"length_in_a_run": SKETCH_LENGTH, "rows": rows})
    print(f"written: {written}")


if __name__ == "__main__":
    main()
