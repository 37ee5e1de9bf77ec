"""How near is the advised rate to the best one, at batches that the user gives?

Run: python benchmarks/rate_rules.py [TASK ...]

The best rate at the base batch B0 is found by grid, rates a factor sqrt 2 apart: least mean steps
to the task's loss over 5 seeds, where a rate counts only if every seed gets there. From that pair
`bsadvisor probe --global-batch-size B` advises a rate for B0·{1/4, 1, 4, 16}, told how long the
base pair takes (`--noise-steps`). At each of these batches the grid is trained as well, with the
optimizer settings that were advised beside the rate. The range holds all rates around the best one
that take at most 10 % more steps. The claim: the advised rate is within a factor of 2 of the best.
"""

import argparse
import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from results import write_results
from rich.console import Console
from rich.table import Table
from training_tasks import RATE_STEP, Pair, Trainer, ask_the_tool, load_task

TASKS = ("digits_sgd", "digits_adamw")
SEEDS = 5
FIRST_SEED = 100  # none that the tool's own trial uses
FACTORS = (0.25, 1.0, 4.0, 16.0)
#: Steps over the fewest up to which a rate counts as about as good as the best.
NEAR_FRACTION = 0.1
#: Rates farther from the first than this many factors of sqrt 2 are not tried.
MOST_POWERS = 16
#: Rates in a row that are clearly worse, or fail, after which none is tried beyond.
ENOUGH_WORSE = 2
CLAIMED_FACTOR = 2.0

Measure = Callable[[int], float]


def scan(measure: Measure, start: int) -> dict[int, float]:
    """Return the steps by power of sqrt 2, outwards from a start until they are clearly worse."""
    found = {start: measure(start)}
    for direction in (1, -1):
        worse = 0
        for distance in range(1, MOST_POWERS + 1):
            power = start + direction * distance
            found[power] = measure(power)
            best = min(found.values())
            is_worse = math.isfinite(best) and found[power] > (1.0 + NEAR_FRACTION) * best
            worse = worse + 1 if is_worse else 0
            if worse >= ENOUGH_WORSE:
                break
    return found


def find_near(found: dict[int, float], best: int) -> tuple[int, int]:
    """Return the ends of the unbroken range of powers about as good as the best."""
    most = (1.0 + NEAR_FRACTION) * found[best]
    low = high = best
    while found.get(low - 1, math.inf) <= most:
        low -= 1
    while found.get(high + 1, math.inf) <= most:
        high += 1
    return low, high


def study_task(
    name: str, pool: ProcessPoolExecutor, seeds: int, options: list[str], console: Console
) -> dict[str, Any]:
    """Return the best and the advised rate at each batch of one task."""
    task = load_task(name)
    default = task.make_optimizer(task.make_model()).param_groups[0]["lr"]
    trainer = Trainer(name, pool, range(FIRST_SEED, FIRST_SEED + seeds))
    base = task.BASE_BATCH_SIZE

    def measure_at(size: int, settings: Pair) -> Measure:
        return lambda power: (
            trainer.mean_steps({"batch": size, "rate": default * RATE_STEP**power, **settings})
            or math.inf
        )

    grid = scan(measure_at(base, {}), 0)
    base_power = min(grid, key=lambda power: grid[power])
    base_rate, base_steps = default * RATE_STEP**base_power, grid[base_power]
    console.print(f"{name}: base rate {base_rate:.3g}, {base_steps:.0f} steps at batch {base}")
    rows = []
    for size in (round(base * factor) for factor in FACTORS):
        pair, derived = ask_the_tool(
            name, base_rate, round(base_steps), "--global-batch-size", str(size), *options
        )
        rate = derived["recommendation"]["learning_rate"]
        settings = {} if pair is None else _keep_settings(pair)
        start = round(math.log((rate["proposed"] or base_rate) / default) / math.log(RATE_STEP))
        found = scan(measure_at(size, settings), start)
        row = {
            "batch": size,
            **compare(found, default, rate["value"], rate["proposed"]),
            "advised_steps": None if pair is None else trainer.mean_steps(pair),
            "settings": settings,
            "reason": rate["reason"],
        }
        rows.append(row)
        console.print(row)
    return {
        "task": name,
        "base_batch": base,
        "base_rate": base_rate,
        "base_steps": base_steps,
        "seeds": seeds,
        "rows": rows,
    }


def compare(
    found: dict[int, float], default: float, advised: float | None, proposed: float | None
) -> dict[str, Any]:
    """Return the best rate of a grid, the range about as good, and what was advised over it."""
    best = min(found, key=lambda power: found[power])
    if math.isinf(found[best]):  # no rate gets to the target at this batch
        best_rate, low, high, steps = None, None, None, None
    else:
        best_rate, steps = default * RATE_STEP**best, found[best]
        low, high = (default * RATE_STEP**power for power in find_near(found, best))
    return {
        "best_rate": best_rate,
        "best_steps": steps,
        "near_low": low,
        "near_high": high,
        "advised_rate": advised,
        "rule_rate": proposed,
        "advised_over_best": None if advised is None or best_rate is None else advised / best_rate,
        "rule_over_best": None if proposed is None or best_rate is None else proposed / best_rate,
        "grid": {
            f"{default * RATE_STEP**power:.4g}": None if math.isinf(found[power]) else found[power]
            for power in sorted(found)
        },
    }


def _keep_settings(pair: Pair) -> Pair:
    return {key: pair[key] for key in ("beta2", "weight_decay") if pair[key] is not None}


def print_task(console: Console, result: dict[str, Any]) -> None:
    """Print one task's table."""
    columns = "batch", "best by grid", "within 10 %", "advised", "rule", "ratio", "rule's", "steps"
    table = Table(*columns, title=result["task"])
    for row in result["rows"]:
        table.add_row(
            str(row["batch"]),
            _show(row["best_rate"]),
            f"{_show(row['near_low'])} to {_show(row['near_high'])}",
            _show(row["advised_rate"]),
            _show(row["rule_rate"]),
            _show(row["advised_over_best"]),
            _show(row["rule_over_best"]),
            f"{_show(row['advised_steps'])} / {_show(row['best_steps'])}",
        )
    console.print(table)


def summarise(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many advised rates are within the claimed factor of the best, and the worst."""
    rows = [row for result in results for row in result["rows"]]
    summary: dict[str, Any] = {"batches": len(rows)}
    for key in ("advised", "rule"):
        ratios = [row[f"{key}_over_best"] for row in rows]
        factors = [max(ratio, 1.0 / ratio) for ratio in ratios if ratio is not None]
        summary[f"{key}_within_factor_2"] = sum(factor <= CLAIMED_FACTOR for factor in factors)
        summary[f"{key}_worst_factor"] = max(factors, default=None)
    return summary


def _show(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def main() -> None:
    """Study the tasks, print a table for each and the summary, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tasks", nargs="*", default=TASKS)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--workers", type=int, default=2, help="processes that train")
    parser.add_argument("--budget", default="120s", help="of each probe")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    results, console = [], Console(width=110)
    options = ["--budget", arguments.budget]
    with ProcessPoolExecutor(arguments.workers) as pool:
        for name in arguments.tasks:
            result = study_task(name, pool, arguments.seeds, options, console)
            results.append(result)
            print_task(console, result)
            summary = summarise(results)
            if not arguments.no_write:  # after each: they take minutes
                write_results("rate_rules", {"summary": summary, "tasks": results})
    console.print(summarise(results))


if __name__ == "__main__":
    main()
