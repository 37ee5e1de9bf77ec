"""Whether ending the noise trajectory once the advice is settled biases the noise scale of the run.

Run: python benchmarks/noise_stopping.py

Each seed follows a trajectory of six spans in which φ is known in closed form, measured with
n = 5 φ samples, and ends it by the tool's own rule (`explain_enough`). The truth
is the average over the progress of the whole trajectory, ended early or not. `time` is what batch
sqrt(φ·B_h) of the estimated φ costs against that of the true one: (2 + k + 1/k)/4.
"""

import argparse
import itertools
import math
import sys

import numpy as np
from gaussian_regression import Setting, draw_gradients, make_world, pool_moments
from results import write_results
from rich.console import Console
from rich.table import Table

from advisor.noise.course import explain_enough
from advisor.noise.data import NoiseBatches, NoiseConclusion
from advisor.noise.plan import conclude_noise
from advisor.noise.stations import MOST_ITERATES, plan_edges
from advisor.training.data import WorkloadFacts

GROUPS, BATCH_SIZE = 16, 32
EDGES = plan_edges(400, MOST_ITERATES)
SPANS = tuple(itertools.pairwise(EDGES))
#: Samples of a point over its noise scale.
SAMPLES_PER_NOISE_SCALE = 5.0
FACTS = WorkloadFacts(
    file="", model_name="", how_model="", how_loss="", how_optimizer="", how_batch="",
    has_dataset=True,
)  # fmt: skip
#: Name, dimension, decay of the spectrum, and φ in the six spans.
COURSES = (
    ("flat", 30, 1.0, (200.0,) * 6),
    ("flat, many parameters", 200, 1.0, (200.0,) * 6),
    ("flat, few parameters", 5, 1.0, (200.0,) * 6),
    ("flat, then ×4", 30, 1.0, (200.0, 200.0, 200.0, 200.0, 400.0, 800.0)),
    ("rises ×1.6", 30, 1.0, tuple(200.0 * 1.6 ** (k / 5) for k in range(6))),
    ("rises ×3", 30, 1.0, tuple(100.0 * 3.0 ** (k / 5) for k in range(6))),
    ("rises ×10", 30, 1.0, tuple(60.0 * 10.0 ** (k / 5) for k in range(6))),
    ("falls ×3", 30, 1.0, tuple(300.0 * 3.0 ** (-k / 5) for k in range(6))),
)


def measure(setting: Setting, span: tuple[int, int], seed: int) -> NoiseBatches:
    """Return what a worker would report in one span: one mean for each group."""
    size = max(1, round(SAMPLES_PER_NOISE_SCALE * setting.noise_scale / GROUPS))
    drawn = draw_gradients(setting, make_world(setting), size * GROUPS, seed)
    sizes, groups = [size] * GROUPS, range(GROUPS)
    return NoiseBatches(
        at_step=span[0],
        stands_for=span,
        loss=0.0,
        micro_batch_sizes=tuple(sizes),
        groups=tuple(groups),
        plain=pool_moments(drawn.reshape(GROUPS, size, -1).mean(axis=1), sizes, groups),
        micro_batch_size=BATCH_SIZE,
    )


def average(scales: tuple[float, ...]) -> float:
    """Return the true average over progress of the whole trajectory."""
    shares = np.array(scales) / (np.array(scales) + BATCH_SIZE)
    share = float(np.average(shares, weights=np.diff(EDGES)))
    return BATCH_SIZE * share / (1.0 - share)


def run_course(name: str, dimension: int, decay: float, scales: tuple[float, ...], seeds: int) -> (
    dict[str, object]
):  # fmt: skip
    """Return how often the trajectory ends early, and what that does to the average."""
    truth = average(scales)
    settings = [
        Setting(name=name, dimension=dimension, decay=decay, noise_scale=scale) for scale in scales
    ]
    whole: list[NoiseConclusion] = []
    ended: list[NoiseConclusion] = []
    for seed in range(seeds):
        batches: list[NoiseBatches] = []
        early: NoiseConclusion | None = None
        for place, (setting, span) in enumerate(zip(settings, SPANS, strict=True)):
            batches.append(measure(setting, span, 1000 * seed + place))
            conclusion = conclude_noise(FACTS, batches)
            if early is None and place < len(SPANS) - 1 and explain_enough(conclusion):
                early = conclusion
        whole.append(conclusion)
        ended.append(early or conclusion)
    return {
        "name": name,
        "seeds": seeds,
        "noise_scale": truth,
        "ended_early_fraction": sum(len(c.points) < len(SPANS) for c in ended) / seeds,
        "points_saved_fraction": 1.0 - sum(len(c.points) for c in ended) / (seeds * len(SPANS)),
        "whole": summarise(whole, truth),
        "ended": summarise(ended, truth),
        "ended_alone": summarise([c for c in ended if len(c.points) < len(SPANS)], truth),
    }


def summarise(conclusions: list[NoiseConclusion], truth: float) -> dict[str, float | None]:
    """Return bias, coverage, and the time that the error of the estimate costs."""
    estimates = [c.decisive for c in conclusions if c.decisive is not None]
    points = [e.point for e in estimates if e.point is not None and e.point > 0.0]
    if not points:
        return {"median_over_truth": None, "coverage_fraction": None, "time_p95_fraction": None}
    held = sum(
        (e.low is None or e.low <= truth) and (e.high is None or truth <= e.high) for e in estimates
    )
    factors = [math.sqrt(point / truth) for point in points]
    times = [(2.0 + k + 1.0 / k) / 4.0 - 1.0 for k in factors]
    return {
        "median_over_truth": float(np.median(points)) / truth,
        "coverage_fraction": held / len(estimates),
        "time_p95_fraction": float(np.quantile(times, 0.95)),
    }


def main() -> None:
    """Simulate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=1000, help="trajectories of each course")
    seeds = parser.parse_args().seeds
    table = Table(title="median over truth / coverage / time lost in the worst 5 %")
    for column in ("φ along the run", "ended early", "points saved", "whole", "with the rule",
                   "those ended"):  # fmt: skip
        table.add_column(column)
    rows = []
    for course in COURSES:
        row = run_course(*course, seeds)
        rows.append(row)
        print(row, file=sys.stderr)
        cells = []
        for kind in ("whole", "ended", "ended_alone"):
            figures = row[kind]
            assert isinstance(figures, dict)
            known = figures["median_over_truth"] is not None
            cells.append(
                f"{figures['median_over_truth']:.2f} / {figures['coverage_fraction']:.3f} / "
                f"{figures['time_p95_fraction']:.1%}" if known else ""
            )  # fmt: skip
        table.add_row(
            str(row["name"]), f"{row['ended_early_fraction']:.0%}",
            f"{row['points_saved_fraction']:.0%}", *cells,
        )  # fmt: skip
    Console().print(table)
    print(f"written: {write_results('noise_stopping', {'rows': rows})}")


if __name__ == "__main__":
    main()
