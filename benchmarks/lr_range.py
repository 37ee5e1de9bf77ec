"""Does the range test find rates that train, and how near are they to the best ones?

Run: python benchmarks/lr_range.py

For each task of lr_range_tasks.py the range test runs as `bsadvisor lr-range` runs it, with its
trial. The best rate is found beside it by training 200 steps from 3 other starts at every rate of a
grid of factors of 2; a rate's loss is the mean over starts of the last three of ten evaluations.
Other rules are read off the same curves: the steepest descent, and a tenth of the lowest point.
The excess is the loss at a rule's rate, read off the grid, over the best, as a share of the best
rate's fall.
"""

import math
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

import torch
from results import write_results
from rich.console import Console
from rich.table import Table

from advisor.rate import measure, measure_range
from advisor.rate.conclude import Verdict, choose_best_rate, choose_next_rate, judge_alone
from advisor.rate.data import TrialBranch, TrialTask
from advisor.rate.range_data import LrRangeConclusion, LrRangeCurve, LrRangeTask
from advisor.rate.range_test import conclude_lr_range
from advisor.training.data import WorkloadSpec

#: Task, optimizer, batch.
CASES = (
    ("digits", "sgd", 32),
    ("digits", "sgd", 256),
    ("digits", "adamw", 32),
    ("digits", "adamw", 256),
    ("images", "momentum", 32),
    ("images", "adamw", 32),
    ("table", "sgd", 32),
    ("table", "adamw", 32),
    ("gaussian", "sgd", 32),
    ("gaussian", "momentum", 32),
    ("characters", "adamw", 32),
)
#: The optimizer's own rate, around which the range lies.
OWN_RATES = {"sgd": 0.1, "momentum": 0.1, "adamw": 1e-3}
STEPS, SEEDS, TRIAL_SEEDS, GRID_SEEDS = 200, (0, 1, 2), (1000, 1001, 1002), (100, 101, 102)
#: Rates of the grid: powers of 2 times the own rate; their ends lie beyond what trains.
POWERS = range(-6, 11)
#: A rate trains where every start's loss falls by half as much as at the best rate.
TRAINS_FRACTION = 0.5


def run_range(workload: WorkloadSpec, batch_size: int, own_rate: float) -> list[LrRangeCurve]:
    """Return the curves of the range test."""
    curves: list[LrRangeCurve] = []
    task = LrRangeTask(
        workload=workload,
        micro_batch_size=batch_size,
        gradient_accumulation_steps=1,
        low_rate=own_rate * 1e-4,
        high_rate=own_rate * 1e3,
        steps=STEPS,
        seeds=SEEDS,
        budget_s=600.0,
    )
    measure_range.run(task, curves.append)  # type: ignore[arg-type]
    return curves


def train(
    workload: WorkloadSpec, batch_size: int, rate: float, seeds: Sequence[int], steps: int
) -> list[TrialBranch]:
    """Return a branch for each seed at a constant rate."""
    branches: list[TrialBranch] = []
    task = TrialTask(
        workload=workload,
        micro_batch_size=batch_size,
        gradient_accumulation_steps=1,
        learning_rate=rate,
        samples=steps * batch_size,
        evaluations=10,
        seeds=tuple(seeds),
        budget_s=600.0,
    )
    measure.run(task, branches.append)  # type: ignore[arg-type]
    return branches


def confirm(
    workload: WorkloadSpec, batch_size: int, conclusion: LrRangeConclusion
) -> tuple[float | None, int]:
    """Return the rate that the trial leaves, and how many rates it tried."""
    suggested = conclusion.suggested
    if suggested is None:
        return None, 0
    tried: dict[float, Verdict] = {}
    while (rate := choose_next_rate(suggested, tried)) is not None:
        branches = train(workload, batch_size, rate, TRIAL_SEEDS, 100)
        tried[rate] = judge_alone(branches, fall=conclusion.fall)
    return choose_best_rate(tried), len(tried)


def end_loss(branch: TrialBranch) -> float:
    """Return the mean of the last three evaluations; infinite where the branch diverged."""
    if branch.diverged:
        return math.inf
    return statistics.fmean(each.loss for each in branch.evaluations[-3:])


def study(task: str, optimizer: str, batch_size: int) -> dict[str, object]:
    """Return the figures of one case."""
    settings = {"task": task, "optimizer": optimizer}
    target = str(Path(__file__).with_name("lr_range_tasks.py"))
    workload = WorkloadSpec(target=target, settings=settings, device="cpu")
    curves = run_range(workload, batch_size, OWN_RATES[optimizer])
    conclusion = conclude_lr_range(curves)
    assert conclusion is not None
    value, tried = confirm(workload, batch_size, conclusion)
    grid = {
        rate: train(workload, batch_size, rate, GRID_SEEDS, STEPS)
        for rate in (OWN_RATES[optimizer] * 2.0**power for power in POWERS)
    }
    ends = {rate: [end_loss(branch) for branch in grid[rate]] for rate in grid}
    means = {rate: statistics.fmean(ends[rate]) for rate in grid}
    best = min(means, key=lambda rate: means[rate])
    first = statistics.fmean(branch.evaluations[0].loss for branch in grid[best])
    fall = first - means[best]
    training_rates = [r for r in grid if max(ends[r]) < first - TRAINS_FRACTION * fall]
    own = train(workload, batch_size, value, GRID_SEEDS, STEPS) if value is not None else []
    own_ends = [end_loss(branch) for branch in own]
    steepest = [each.steepest_at for each in conclusion.seeds if each.steepest_at is not None]
    lowest = [each.lowest_at for each in conclusion.seeds if each.lowest_at is not None]
    return {
        "task": task,
        "optimizer": optimizer,
        "batch_size": batch_size,
        "status": conclusion.status,
        "low": conclusion.low,
        "high": conclusion.high,
        "suggested": conclusion.suggested,
        "value": value,
        "rates_tried": tried,
        "best_rate": best,
        "best_loss": means[best],
        "first_loss": first,
        "largest_that_trains": max(training_rates),
        "suggested_over_best": (
            None if conclusion.suggested is None else conclusion.suggested / best
        ),
        "value_over_best": None if value is None else value / best,
        "value_trains": bool(own_ends) and max(own_ends) < first - TRAINS_FRACTION * fall,
        "excess_fraction": (
            (statistics.fmean(own_ends) - means[best]) / fall
            if own_ends and math.isfinite(max(own_ends))
            else None
        ),
        "steepest_over_best": statistics.median(steepest) / best if steepest else None,
        "tenth_of_lowest_over_best": statistics.median(lowest) / 10 / best if lowest else None,
    }


def main() -> None:
    """Study every case, print the table and write the results."""
    torch.set_num_threads(1)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    cases = []
    for task, optimizer, batch_size in CASES:
        cases.append(study(task, optimizer, batch_size))
        Console(stderr=True).print(cases[-1])
    table = Table(title="The range test against a grid of rates")
    for column in (
        "task",
        "good rates",
        "advised",
        "best",
        "ratio",
        "excess",
        "trains",
        "steepest",
    ):
        table.add_column(column)
    for case in cases:
        table.add_row(
            f"{case['task']} {case['optimizer']} {case['batch_size']}",
            f"{_show(case['low'])} to {_show(case['high'])}",
            _show(case["value"]),
            _show(case["best_rate"]),
            _show(case["value_over_best"]),
            _show(case["excess_fraction"]),
            "yes" if case["value_trains"] else "no",
            _show(case["steepest_over_best"]),
        )
    Console().print(table)
    write_results("lr_range", summarise(cases))


def summarise(cases: Sequence[dict[str, object]]) -> dict[str, object]:
    """Return the cases with the figures that the documents quote."""
    ratios = [c["value_over_best"] for c in cases if isinstance(c["value_over_best"], float)]
    alone = [c["suggested_over_best"] for c in cases if isinstance(c["suggested_over_best"], float)]
    excess = [c["excess_fraction"] for c in cases if isinstance(c["excess_fraction"], float)]
    return {
        "cases": list(cases),
        "within_factor_3": sum(1 / 3 <= ratio <= 3 for ratio in ratios),
        "value_trains": sum(bool(case["value_trains"]) for case in cases),
        "median_factor": statistics.median(max(ratio, 1 / ratio) for ratio in ratios),
        "worst_factor": max(max(ratio, 1 / ratio) for ratio in ratios),
        "suggested_median_factor": statistics.median(max(ratio, 1 / ratio) for ratio in alone),
        "suggested_worst_factor": max(max(ratio, 1 / ratio) for ratio in alone),
        "worst_excess_fraction": max(excess),
    }


def _show(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "-"


if __name__ == "__main__":
    main()
