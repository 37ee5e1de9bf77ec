"""Does an advised pair ever diverge, is its rate far below what trains, and how often is one lost?

Run: python benchmarks/advised_rates.py [TASK ...]

For each task of benchmarks/tasks three base rates are given to `bsadvisor probe`: the task's own, a
quarter of it, and the edge of stability, the largest of a ladder of factors sqrt 2 at which all of
5 starts train at the base batch. The advised pair is trained from 10 fresh starts over the samples
that the base pair takes to the task's loss, with the settings advised beside the rate: does any
diverge (the loss is not finite, or ends more than 10 % above its first)? Then come the rates of the
ladder above the advised one, from 5 starts: which is the largest that trains, and which the largest
that trains as well? A rate trains if no start diverges and the loss falls from every one by at
least half of the base pair's own fall; as well, if besides its mean loss at the end is no higher
than that of the advised rate. The claim is about the latter: with Adam rates train that are ten
times the best one.

Last, how often the trial refuses a pair that trains: see trial_refusals.py. Two cases run at once.
"""

import argparse
import functools
import math
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import torch
from results import write_results
from rich.console import Console
from rich.table import Table
from training_tasks import RATE_STEP, TASKS, Pair, ask_the_tool, list_tasks, load_task
from training_tasks import steps_to_target as count_steps
from trial_refusals import Refusals, study_refusals, summarise_refusals

from advisor.rate import measure as training
from advisor.rate.curves import has_diverged
from advisor.rate.data import TrialBranch, TrialTask
from advisor.rate.verdict import STALL_FRACTION
from advisor.training.data import WorkloadSpec

#: Starts, none of which the tool's own trial uses.
FRESH, LADDER, TARGET_SEEDS = tuple(range(200, 210)), tuple(range(300, 305)), (400, 401, 402)
#: Most steps told to the probe as the length of the base run, and trained with it.
MOST_STEPS = 400
#: Rates in a row that do not train after which no larger one is tried, and most tried in all.
ENOUGH_FAILURES, MOST_RATES = 2, 12
EVALUATIONS = 20
#: The advised rate less a hair over the largest as good.
CLAIMED_FRACTION = 0.5 - 1e-9
BASES = ("own", "quarter", "edge")


def make_workload(name: str) -> WorkloadSpec:
    """Return the task as the worker loads it."""
    return WorkloadSpec(target=str(TASKS / f"{name}.py"), settings={}, device="cpu")


def train(name: str, pair: Pair, seeds: Sequence[int], samples: int) -> list[TrialBranch]:
    """Return one branch for each seed, as the trial trains it."""
    branches: list[TrialBranch] = []
    task = TrialTask(
        workload=make_workload(name),
        micro_batch_size=pair["batch"],
        gradient_accumulation_steps=1,
        learning_rate=pair["rate"],
        samples=samples,
        evaluations=EVALUATIONS,
        seeds=tuple(seeds),
        budget_s=math.inf,
        beta2=pair.get("beta2"),
        weight_decay=pair.get("weight_decay"),
    )
    training.run(task, branches.append)  # type: ignore[arg-type]
    return branches


def measure_level(branches: Sequence[TrialBranch]) -> float:
    """Return the mean loss at the end."""
    return statistics.fmean(each.end.loss for each in branches)


def measure_fall(branches: Sequence[TrialBranch]) -> float:
    """Return the mean fall of the loss over starts."""
    return statistics.fmean(each.fall for each in branches)


def trains(branches: Sequence[TrialBranch], fall: float) -> bool:
    """Return whether no start diverged and each fell by half of a pair's fall."""
    return not any(has_diverged(each) or each.fall < STALL_FRACTION * fall for each in branches)


def find_largest(tries: Callable[[float], bool], rate: float) -> float | None:
    """Return the largest rate that trains on the ladder from a rate upwards, else the next below.

    Args:
        tries: Whether a rate trains.
        rate: Where the ladder starts.
    """
    largest, failures = None, 0
    for power in range(MOST_RATES):
        tried = rate * RATE_STEP**power
        if tries(tried):
            largest, failures = tried, 0
        else:
            failures += 1
        if failures >= ENOUGH_FAILURES:
            break
    if largest is not None:
        return largest
    below = (rate / RATE_STEP**power for power in range(1, MOST_RATES))
    return next((tried for tried in below if tries(tried)), None)


def find_base_rate(name: str, base: str) -> float:
    """Return the base rate of a case."""
    task = load_task(name)
    own: float = task.make_optimizer(task.make_model()).param_groups[0]["lr"]
    if base != "edge":
        return own if base == "own" else own / 4.0
    size = task.BASE_BATCH_SIZE
    samples = count_base_steps(name, own) * size
    fall = measure_fall(train(name, {"batch": size, "rate": own}, LADDER, samples))
    edge = find_largest(
        lambda rate: trains(train(name, {"batch": size, "rate": rate}, LADDER, samples), fall), own
    )
    assert edge is not None
    return edge


def count_base_steps(name: str, rate: float) -> int:
    """Return the steps of the base run: to the target where it gets there, at most 400."""
    pair = {"batch": load_task(name).BASE_BATCH_SIZE, "rate": rate}
    found = [count_steps(name, pair, math.inf, seed) for seed in TARGET_SEEDS]
    known = [steps for steps in found if steps is not None]
    return min(MOST_STEPS, round(statistics.fmean(known)) if known else MOST_STEPS)


def study_case(name: str, base: str, budget: str) -> dict[str, Any]:
    """Return what is advised from one base rate and how it trains."""
    torch.set_num_threads(1)
    size = load_task(name).BASE_BATCH_SIZE
    rate = find_base_rate(name, base)
    steps = count_base_steps(name, rate)
    advised, derived = ask_the_tool(name, rate, steps, "--budget", budget)
    advice = derived["recommendation"]
    case: dict[str, Any] = {
        "task": name,
        "base": base,
        "base_batch": size,
        "base_rate": rate,
        "base_steps": steps,
        "batch": advice["global_batch_size"],
        "rate": None,
        "rule_rate": advice["learning_rate"]["proposed"],
        "reason": advice["learning_rate"]["reason"],
    }
    if advised is None:
        return case
    samples = steps * size
    base_branches = train(name, {"batch": size, "rate": rate}, LADDER, samples)
    fall = measure_fall(base_branches)
    fresh = train(name, advised, FRESH, samples)

    @functools.cache
    def train_at(rate: float) -> list[TrialBranch]:
        return train(name, {**advised, "rate": rate}, LADDER, samples)

    level = measure_level(train_at(advised["rate"]))

    def is_as_good(rate: float) -> bool:
        branches = train_at(rate)
        return trains(branches, fall) and measure_level(branches) <= level

    largest = find_largest(lambda tried: trains(train_at(tried), fall), advised["rate"])
    as_good = find_largest(is_as_good, advised["rate"])
    return {
        **case,
        "rate": advised["rate"],
        "settings": {key: advised[key] for key in ("beta2", "weight_decay")},
        "base_diverged": sum(map(has_diverged, base_branches)),
        "base_fall": fall,
        "fall": measure_fall(fresh),
        "diverged": sum(map(has_diverged, fresh)),
        "trains": trains(fresh, fall),
        "largest_that_trains": largest,
        "over_largest": None if largest is None else advised["rate"] / largest,
        "largest_as_good": as_good,
        "over_largest_as_good": None if as_good is None else advised["rate"] / as_good,
    }


def study_task_refusals(name: str) -> tuple[float, Refusals]:
    """Return the best rate of the ladder at the base batch, and which triples refuse it."""
    torch.set_num_threads(1)
    task = load_task(name)
    size = task.BASE_BATCH_SIZE
    own: float = task.make_optimizer(task.make_model()).param_groups[0]["lr"]
    samples = count_base_steps(name, own) * size
    ends: dict[int, float] = {}

    def measure(power: int) -> float:
        if power not in ends:
            pair = {"batch": size, "rate": own * RATE_STEP**power}
            branches = train(name, pair, LADDER, samples)
            failed = any(map(has_diverged, branches))
            ends[power] = math.inf if failed else measure_level(branches)
        return ends[power]

    best = 0
    for direction in (1, -1):
        while abs(best) < MOST_RATES and measure(best + direction) < measure(best):
            best += direction
    rate = own * RATE_STEP**best
    return rate, study_refusals(make_workload(name), size, rate)


def print_cases(console: Console, cases: Sequence[dict[str, Any]]) -> None:
    """Print one row for each case."""
    columns = "task", "base", "pair", "advised", "diverged of 10", "trains", "as good", "largest"
    table = Table(*columns, title="Advised pairs, trained from fresh starts")
    for case in cases:
        has_rate = case["rate"] is not None
        table.add_row(
            case["task"],
            case["base"],
            f"{case['base_batch']} at {case['base_rate']:.3g}",
            f"{case['batch']} at {case['rate']:.3g}" if has_rate else f"{case['batch']}: no rate",
            str(case["diverged"]) if has_rate else "-",
            ("yes" if case["trains"] else "no") if has_rate else "-",
            *(
                f"{case[key]:.3g} ({case['rate'] / case[key]:.2f})" if case.get(key) else "-"
                for key in ("largest_as_good", "largest_that_trains")
            ),
        )
    console.print(table)


def print_refusals(console: Console, rows: Sequence[dict[str, Any]]) -> None:
    """Print how often a pair that trains is refused."""
    table = Table("compared with", "steps", "refused", title="Pairs that train, refused")
    for row in rows:
        share, low, high = (100 * row[key] for key in ("refused_fraction", "low", "high"))
        table.add_row(
            row["compared_with"], str(row["steps"]), f"{share:.1f} % ({low:.1f} to {high:.1f})"
        )
    console.print(table)


def summarise(cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of the claim."""
    advised = [case for case in cases if case["rate"] is not None]
    ratios, over_largest = (
        [case[key] for case in advised if case[key] is not None]
        for key in ("over_largest_as_good", "over_largest")
    )
    return {
        "cases": len(cases),
        "without_rate": len(cases) - len(advised),
        "pairs_with_a_diverged_start": sum(case["diverged"] > 0 for case in advised),
        "pairs_that_train": sum(case["trains"] for case in advised),
        "below_half_of_the_largest_as_good": sum(ratio < CLAIMED_FRACTION for ratio in ratios),
        "smallest_over_largest_as_good": min(ratios, default=None),
        "below_half_of_the_largest_that_trains": sum(
            ratio < CLAIMED_FRACTION for ratio in over_largest
        ),
        "median_over_largest_that_trains": statistics.median(over_largest)
        if over_largest
        else None,
    }


def main() -> None:
    """Study every case, print the tables and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tasks", nargs="*", default=list_tasks())
    parser.add_argument("--bases", nargs="+", choices=BASES, default=BASES)
    parser.add_argument("--workers", type=int, default=2, help="cases at a time")
    parser.add_argument("--budget", default="90s", help="of each probe")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    console, started = Console(width=110), time.monotonic()
    cases: list[dict[str, Any]] = []
    refusals: dict[str, tuple[float, Refusals]] = {}
    with ProcessPoolExecutor(arguments.workers) as pool:
        pending = [
            pool.submit(study_case, name, base, arguments.budget)
            for name in arguments.tasks
            for base in arguments.bases
        ]
        drawing = {pool.submit(study_task_refusals, name): name for name in arguments.tasks}
        for done in as_completed(pending):
            cases.append(done.result())
            console.print(f"[{time.monotonic() - started:.0f} s]", cases[-1])
        for drawn in as_completed(drawing):
            refusals[drawing[drawn]] = drawn.result()
            console.print(f"[{time.monotonic() - started:.0f} s] refusals: {drawing[drawn]}")
    cases.sort(key=lambda case: (case["task"], BASES.index(case["base"])))
    rows = summarise_refusals([drawn for _, drawn in refusals.values()])
    print_cases(console, cases)
    print_refusals(console, rows)
    console.print(summarise(cases), f"{time.monotonic() - started:.0f} s")
    if not arguments.no_write:
        by_task = {
            name: {"rate": rate, "refused": summarise_refusals([drawn])}
            for name, (rate, drawn) in sorted(refusals.items())
        }
        results = {"summary": summarise(cases), "cases": cases, "refusals": rows}
        write_results("advised_rates", {**results, "refusals_by_task": by_task})


if __name__ == "__main__":
    main()
