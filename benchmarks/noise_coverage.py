"""Bias and coverage of the noise scale on a regression whose noise scale is known in closed form.

Each seed draws n samples of a `gaussian_regression`, splits them into micro-batches and asks
`estimate_noise_point` for the interval; a second part averages five such points along a trajectory
with `conclude_noise`.

Run it from anywhere: `python benchmarks/noise_coverage.py`. It prints a table and writes
`results/noise_coverage.json`.
"""

import argparse
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from gaussian_regression import Floats, Setting, draw_gradients, make_world, pool_moments
from results import write_results
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from advisor.noise.data import NoiseBatches, NoiseLogEntry, NoisePoint
from advisor.noise.plan import conclude_noise
from advisor.noise.point import estimate_log_points, estimate_noise_point
from advisor.statistics import Estimate
from advisor.training.data import WorkloadFacts

#: Jackknife groups, as in the method.
GROUPS = 16
#: Nominal coverage of the intervals, and the band that counts as honest.
CONFIDENCE, COVERAGE_BAND = 0.95, (0.93, 0.99)
#: Steps of the simulated trajectory, and the noise scales met there, in samples.
TRAJECTORY = ((0, 50.0), (50, 100.0), (100, 200.0), (150, 400.0), (200, 800.0))


SETTINGS = (
    Setting(name="plain"),
    Setting(name="flat spectrum", decay=0.0),
    Setting(name="steep spectrum", decay=2.0, effort=2),
    Setting(name="few parameters", dimension=5, effort=4),
    Setting(name="many parameters", dimension=200, samples_per_noise_scale=3.0),
    Setting(name="small noise scale", noise_scale=40.0, samples_per_noise_scale=12.0),
    Setting(name="large noise scale", noise_scale=1500.0, samples_per_noise_scale=3.0),
    Setting(name="n = 10 φ", samples_per_noise_scale=10.0),
    Setting(name="n = φ", samples_per_noise_scale=1.0, effort=8),
    Setting(name="n = φ/4", noise_scale=1600.0, samples_per_noise_scale=0.25, effort=16),
    Setting(name="single samples", sizes=(1,)),
    Setting(name="ragged sizes", sizes=(32, 32, 32, 7, 1, 16)),
    Setting(name="two sizes", sizes=(4, 64)),
    Setting(name="sum loss, ragged", sizes=(32, 32, 32, 7, 1, 16), sum_loss=True),
    Setting(name="t-distributed noise", heavy_tails=True),
    Setting(name="t noise, ragged", heavy_tails=True, sizes=(32, 32, 32, 7, 1, 16)),
    Setting(name="preconditioned", power=-0.5),
    Setting(name="preconditioned, ragged", power=-0.5, sizes=(32, 32, 32, 7, 1, 16)),
    Setting(name="preconditioned, t noise", power=-0.5, heavy_tails=True),
    Setting(
        name="preconditioned, sum loss, accumulation",
        power=-0.5,
        sum_loss=True,
        sizes=(8,),
        accumulation=4,
    ),
    Setting(name="preconditioned, n = 10 φ", power=-0.5, samples_per_noise_scale=10.0),
    Setting(name="accumulation of 4", sizes=(8,), accumulation=4),
    Setting(name="accumulation of 3, ragged", sizes=(32, 7, 16, 16), accumulation=3),
    Setting(name="accumulation of 4, t noise", sizes=(8,), accumulation=4, heavy_tails=True),
    Setting(name="sum loss, t noise", sizes=(8,), sum_loss=True, heavy_tails=True),
    Setting(
        name="tokens, ragged",
        noise_scale=800.0,
        sizes=(45, 30, 38, 52, 27, 48),
        tokens_per_sample=4.0,
    ),
    Setting(name="log of 64 steps", samples_per_noise_scale=10.24, sizes=(8,), log_steps=64),
    Setting(
        name="log of 64 steps, ragged",
        samples_per_noise_scale=10.24,
        sizes=(10, 10, 10, 2),
        log_steps=64,
    ),
    Setting(
        name="log of 64 steps, t noise",
        samples_per_noise_scale=10.24,
        sizes=(8,),
        log_steps=64,
        heavy_tails=True,
    ),
    Setting(name="one mean for each group", sizes=(50,)),
    Setting(
        name="n = 3 φ, one mean for each group",
        sizes=(64,),
        noise_scale=341.0,
        samples_per_noise_scale=3.0,
    ),
    Setting(name="stopped at 5 φ", sizes=(4,), samples_per_noise_scale=20.0, enough=5.0),
    Setting(
        name="stopped at 5 φ, steep",
        decay=2.0,
        sizes=(4,),
        samples_per_noise_scale=20.0,
        enough=5.0,
    ),
    Setting(
        name="stopped at 5 φ, few parameters",
        dimension=5,
        sizes=(4,),
        samples_per_noise_scale=20.0,
        enough=5.0,
    ),
    Setting(name="finite, n = N/4", dataset_size=3200),
    Setting(name="finite, n = N", dataset_size=800),
)


def split_sizes(setting: Setting) -> list[int]:
    """Return the micro-batch sizes that make up n, the last one cut short where needed."""
    left = round(setting.samples_per_noise_scale * setting.noise_scale)
    sizes: list[int] = []
    while left > 0:
        sizes.append(min(setting.sizes[len(sizes) % len(setting.sizes)], left))
        left -= sizes[-1]
    return sizes


def measure(setting: Setting, gradients: Floats, at_step: int = 0) -> NoiseBatches:
    """Return what a worker would report of these per-sample gradients.

    A mean loss gives the mean gradient of a micro-batch; a summed one gives its sum, which the
    worker divides by the number of samples.
    """
    sizes = merge_sizes(setting)
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    sums = np.add.reduceat(gradients, starts, axis=0)
    means = sums / np.asarray(sizes)[:, None]
    if not setting.sum_loss:
        means = np.stack([part.mean(axis=0) for part in np.split(gradients, starts[1:])])
    groups = [index % GROUPS for index in range(len(sizes))]
    samples = tuple(sizes)
    if setting.tokens_per_sample is not None:
        samples = (round(float(np.mean(setting.sizes)) / setting.tokens_per_sample),) * len(sizes)
    return NoiseBatches(
        at_step=at_step,
        loss=0.0,
        micro_batch_sizes=samples,
        groups=tuple(groups),
        plain=pool_moments(means, sizes, groups),
        weights=() if setting.tokens_per_sample is None else tuple(sizes),
    )


def merge_sizes(setting: Setting) -> list[int]:
    """Return the samples behind each gradient, those of accumulated micro-batches added up."""
    sizes = split_sizes(setting)
    step = setting.accumulation
    return [sum(sizes[start : start + step]) for start in range(0, len(sizes), step)]


def measure_log(setting: Setting, gradients: Floats) -> NoisePoint:
    """Return what the log of a real run says, each step's samples being fresh."""
    assert setting.log_steps is not None
    entries = []
    for step, drawn in enumerate(np.split(gradients, setting.log_steps)):
        sizes = list(setting.sizes) * (len(drawn) // sum(setting.sizes))
        cuts = np.cumsum(sizes)[:-1]
        means = np.stack([part.mean(axis=0) for part in np.split(drawn, cuts)])
        mean = drawn.mean(axis=0)
        weighted = float(np.asarray(sizes) @ np.square(means).sum(axis=1))
        entries.append(
            NoiseLogEntry(
                at_step=step, samples=len(drawn), micro_batches=len(sizes),
                micro_batch_sqnorm=weighted / len(drawn), mean_sqnorm=float(mean @ mean),
            )
        )  # fmt: skip
    (point,) = estimate_log_points(entries, most_windows=1)
    return point


def measure_until_enough(setting: Setting, gradients: Floats, enough: float) -> NoiseBatches:
    """Return the means of the groups at the first look that has seen enough samples."""
    samples_per_round = GROUPS * setting.sizes[0]
    rounds = 1
    while True:
        count = min(rounds * samples_per_round, len(gradients) // GROUPS * GROUPS)
        means = gradients[:count].reshape(GROUPS, count // GROUPS, -1).mean(axis=1)
        sizes, groups = [count // GROUPS] * GROUPS, range(GROUPS)
        batches = NoiseBatches(
            at_step=0, loss=0.0, micro_batch_sizes=tuple(sizes), groups=tuple(groups),
            plain=pool_moments(means, sizes, groups),
        )  # fmt: skip
        point = estimate_noise_point(batches)
        needed = enough * point.gradient_cov_trace
        done = rounds * samples_per_round >= len(gradients)
        if done or (point.gradient_sqnorm > 0.0 and count * point.gradient_sqnorm >= needed):
            return batches
        rounds *= 2


def estimate_point(setting: Setting, drawn: Floats, samples: int) -> NoisePoint:
    """Return the estimate of one seed by the route of the setting."""
    if setting.log_steps is not None:
        return measure_log(setting, drawn[:samples])
    batches = (
        measure(setting, drawn[:samples])
        if setting.enough is None
        else measure_until_enough(setting, drawn, setting.enough)
    )
    return estimate_noise_point(batches, dataset_size=setting.dataset_size)


def contains(estimate: Estimate | None, truth: float) -> bool:
    """Return whether the interval holds the truth; an unknown end is no limit."""
    if estimate is None:
        return True
    above = estimate.low is None or estimate.low <= truth
    return above and (estimate.high is None or truth <= estimate.high)


def run_setting(setting: Setting, seeds: int) -> dict[str, object]:
    """Return bias, coverage and width over the seeds."""
    world = make_world(setting)
    samples = sum(split_sizes(setting))
    traces, sqnorms, covered, bounded, factors, biases, used = [], [], 0, 0, [], [], []
    for seed in range(seeds):
        drawn = draw_gradients(setting, world, setting.dataset_size or samples, seed)
        truth = setting.noise_scale / (setting.tokens_per_sample or 1.0)
        if setting.dataset_size is not None:
            mean = drawn.mean(axis=0)
            truth = float(drawn.var(axis=0, ddof=1).sum() / (mean @ mean))
        point = estimate_point(setting, drawn, samples)
        traces.append(point.gradient_cov_trace)
        sqnorms.append(point.gradient_sqnorm)
        used.append(point.samples)
        estimate = point.noise_scale
        covered += contains(estimate, truth)
        if estimate.high is not None:
            bounded += 1
            factors.append(estimate.high / truth)
        if estimate.point is not None:
            biases.append(estimate.point / truth)
    unit = setting.tokens_per_sample or 1.0  # a sample's trace is a token's over their number
    trace_bias, trace_error = relative_bias(traces, world.cov_trace / unit)
    sqnorm_bias, sqnorm_error = relative_bias(sqnorms, world.gradient_sqnorm)
    return {
        **asdict(setting),
        "dataset": "infinite" if setting.dataset_size is None else f"{setting.dataset_size}",
        "samples": round(float(np.mean(used))),
        "seeds": seeds,
        "cov_trace_bias_fraction": trace_bias,
        "cov_trace_bias_standard_error_fraction": trace_error,
        "gradient_sqnorm_bias_fraction": sqnorm_bias,
        "gradient_sqnorm_bias_standard_error_fraction": sqnorm_error,
        "coverage_fraction": covered / seeds,
        "upper_end_known_fraction": bounded / seeds,
        "median_point_over_truth": float(np.median(biases)) if biases else None,
        "median_high_over_truth": float(np.median(factors)) if factors else None,
    }


def relative_bias(values: list[float], truth: float) -> tuple[float, float]:
    """Return the bias and its standard error, both as fractions of the truth."""
    ratios = np.asarray(values) / truth
    return float(ratios.mean() - 1.0), float(ratios.std(ddof=1) / math.sqrt(len(values)))


def run_trajectory(samples_per_noise_scale: float, seeds: int) -> dict[str, object]:
    """Return the coverage of the average over progress of five points.

    The truth is ∫φ ds / ∫ds with ds = dt/(1 + φ/B) for steps t of batch B, by the trapezoid rule on
    the true values at the points.
    """
    settings = [
        Setting(name="", noise_scale=scale, samples_per_noise_scale=samples_per_noise_scale)
        for _, scale in TRAJECTORY
    ]
    worlds = [make_world(setting) for setting in settings]
    steps, scales = zip(*TRAJECTORY, strict=True)
    progress = 1.0 / (1.0 + np.array(scales) / settings[0].sizes[0])
    truth = float(np.trapezoid(scales * progress, steps) / np.trapezoid(progress, steps))
    facts = WorkloadFacts(
        file="", model_name="", how_model="", how_loss="", how_optimizer="", how_batch="",
        has_dataset=True,
    )  # fmt: skip
    averages = []
    for seed in range(seeds):
        batches = [
            measure(setting, draw_gradients(setting, world, sum(split_sizes(setting)), key), step)
            for setting, world, step, key in zip(
                settings, worlds, steps, range(100_000 + 5 * seed, 100_005 + 5 * seed), strict=True
            )
        ]
        averages.append(conclude_noise(facts, batches).noise_scale)
    known = [item for item in averages if item is not None and item.high is not None]
    return {
        "name": f"average over progress of 5 points, n = {samples_per_noise_scale:g} φ",
        "dataset": "infinite",
        "seeds": seeds,
        "noise_scale": truth,
        "coverage_fraction": sum(contains(item, truth) for item in averages) / seeds,
        "upper_end_known_fraction": len(known) / seeds,
        "median_point_over_truth": (
            float(np.median([item.point for item in known])) / truth if known else None
        ),
        "median_high_over_truth": (
            float(np.median([item.high for item in known])) / truth if known else None
        ),
    }


def run_all(seeds: int) -> Iterator[dict[str, object]]:
    """Yield one row for each setting, then one for each trajectory."""
    for setting in SETTINGS:
        yield run_setting(setting, seeds * setting.effort)
    for samples_per_noise_scale in (4.0, 10.0):
        yield run_trajectory(samples_per_noise_scale, max(300, seeds // 2))


def make_table() -> Table:
    """Return the empty table."""
    table = Table(title=f"Noise scale: bias, and coverage of the {CONFIDENCE:.0%} interval")
    for name in ("setting", "data", "φ", "n", "seeds", "bias tr Σ", "bias |G|²", "coverage",
                 "upper end known", "point/φ", "high/φ"):  # fmt: skip
        table.add_column(name, justify="left" if name == "setting" else "right")
    return table


def render_row(row: dict[str, object]) -> list[str]:
    """Return the cells of one row; a coverage outside the band is marked with an asterisk."""

    def render(key: str, form: str, error_key: str | None = None) -> str:
        value = row.get(key)
        text = "" if value is None else format(value, form)
        return text if error_key is None or value is None else f"{text} ± {row[error_key]:.1%}"

    covered = render("coverage_fraction", ".3f")
    in_band = COVERAGE_BAND[0] <= float(covered) <= COVERAGE_BAND[1]
    return [
        str(row["name"]), str(row["dataset"]), render("noise_scale", ".0f"), render("samples", "d"),
        render("seeds", "d"),
        render("cov_trace_bias_fraction", "+.1%", "cov_trace_bias_standard_error_fraction"),
        render("gradient_sqnorm_bias_fraction", "+.1%",
               "gradient_sqnorm_bias_standard_error_fraction"),
        covered if in_band else f"{covered}*",
        render("upper_end_known_fraction", ".2f"), render("median_point_over_truth", ".2f"),
        render("median_high_over_truth", ".2f"),
    ]  # fmt: skip


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=4000, help="seeds of each setting")
    arguments = parser.parse_args()
    console, table, rows = Console(), make_table(), []
    for row in run_all(arguments.seeds):
        rows.append(row)
        table.add_row(*render_row(row))
        print(f"{row['name']}: coverage {row['coverage_fraction']:.3f}", file=sys.stderr)
    console.print(table)
    console.print(f"* outside {COVERAGE_BAND[0]} to {COVERAGE_BAND[1]}")
    console.print(f"written: {write_results('noise_coverage', {'rows': rows})}")


if __name__ == "__main__":
    main()
