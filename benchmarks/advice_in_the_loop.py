"""Does the advice win in the user's own loop? Probed by default options, then trained for real.

Run: python benchmarks/advice_in_the_loop.py [--design NAME] [--within MINUTES] [CELL ...]

A cell is a task, a loop, a schedule and a base rate, as in `digits_sgd/loader/cosine/quarter`:
tensors in memory, a DataLoader without workers, a slow dataset behind two workers, an evaluation
after each epoch (once told to the tool, once `untold`); a constant rate, or warm-up and cosine; the
rate that is best at the base batch, or a quarter of it. `--design balanced` has each task in each
loop, the other two in turns; `full` has all; `repeats` probes four cells five times, among them
`examples/digits.py` as it is.

In each cell `bsadvisor probe` is asked as a user would. Then the base pair trains for as long as
the user does, and the advised pair until it has the same loss (with a cosine: over the length whose
end has it), from fresh seeds. That gives steps; the seconds of a step come from blocks of real
steps of both, in turns, in that loop. Where the tool advises to stay, the ratio is 1. The best pair
of a tuned grid (loop_grid.py; `--grids` computes it) is timed in the same blocks and trained from
the same fresh seeds.

Results are merged into one file, so that a run can be ended and resumed; `--table` prints it.
"""

import argparse
import functools
import json
import math
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from fnmatch import fnmatch
from typing import Any

from loop_cells import Cell, list_cells
from loop_grid import count_steps, search_grid
from loop_probe import ask_the_tool, is_stay
from loop_table import draw_table, print_verdict
from loop_trainings import (
    BEYOND,
    Pair,
    draw_interval,
    find_length,
    load,
    read_length,
    train_curve,
    train_to_end,
)
from loops import time_loop
from results import HERE, describe_commit, write_results

NAME = "advice_in_the_loop"
SEEDS = range(300, 312)
#: Base pairs' steps after which the advised pair counts as never getting there, at equal samples.
GIVE_UP_RATIO = 4.0


def compare_steps(
    cell: Cell, base: Pair, pair: Pair, guess_ratio: float
) -> tuple[float, float, float]:
    """Return the advised pair's steps to the base pair's loss over its steps, with its interval."""
    steps = count_steps(cell.task, cell.schedule)
    most = GIVE_UP_RATIO * steps * max(1.0, base["batch"] / pair["batch"])
    if cell.schedule == "constant":
        own = train_curve(cell.task, base, SEEDS, BEYOND * steps)
        level = own.level_at(steps)
        other = train_curve(cell.task, pair, SEEDS, most, level)

        def compare(columns: Sequence[int] | None = None) -> float:
            level = own.level_at(steps, columns)
            return other.steps_to(level, columns) / own.steps_to(level, columns)

    else:
        end = train_to_end(cell.task, base, SEEDS, steps)
        train = functools.partial(train_to_end, cell.task, pair, SEEDS)
        ends = find_length(train, float(end.mean()), guess_ratio * steps, most)

        def compare(columns: Sequence[int] | None = None) -> float:
            level = end.mean() if columns is None else end[list(columns)].mean()
            return read_length(ends, float(level), columns) / steps

    return compare(), *draw_interval(len(SEEDS), compare)


def judge(cell: Cell, grid: dict[str, Any]) -> dict[str, Any]:
    """Return what the tool advised in a cell and what it is worth."""
    base: Pair = {"batch": grid["base_batch"], "rate": grid["base_rate"]}
    told = ask_the_tool(cell, base)
    own, micro = (base["batch"], 1), tuple(told["micro"])
    sizes = [(int(size), 1) for size in grid["batches"]]
    step_s, pause_s = time_loop(
        load(cell.task), cell.loop, sorted({own, micro, *sizes}),
        is_scheduled=cell.schedule == "cosine",
    )  # fmt: skip
    over_base = step_s[micro] / step_s[own]
    ratio, low, high, steps_ratio = 1.0, 1.0, 1.0, 1.0
    if not is_stay(told["pair"], base):
        promise = told["promise"]["point"] if told["promise"] else base["batch"] / micro[0]
        found = compare_steps(cell, base, told["pair"], promise / over_base)
        steps_ratio = found[0]
        ratio, low, high = (each * over_base for each in found)
    best = judge_best(cell, grid, {size: step_s[size, 1] / step_s[own] for size, _ in sizes})
    return {
        "commit": describe_commit(),
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "base": base,
        **told,
        "is_stay": is_stay(told["pair"], base),
        "step_s": {f"{size} x {passes}": value for (size, passes), value in step_s.items()},
        "evaluation_s": pause_s,
        "steps_ratio": _finite(steps_ratio),
        "ratio": {"point": _finite(ratio), "low": _finite(low), "high": _finite(high)},
        "best": best,
        "regret": _finite(ratio / best["ratio"]),
    }


def judge_best(cell: Cell, grid: dict[str, Any], over_base: dict[int, float]) -> dict[str, Any]:
    """Return the best pair of the grid for these times of steps, and what it is worth.

    It was picked as the best of many, so it is trained again from the starts that judge the advice;
    where it is slower than the base pair, that is the best.
    """
    steps = {size: grid["batches"][str(size)]["steps"] / grid["steps"] for size in over_base}
    size = min(over_base, key=lambda each: steps[each] * over_base[each])
    found = grid["batches"][str(size)]
    base: Pair = {"batch": grid["base_batch"], "rate": grid["base_rate"]}
    pair: Pair = {"batch": size, "rate": found["rate"]}
    ratio = 1.0
    if not is_stay(pair, base):
        ratio = compare_steps(cell, base, pair, steps[size])[0] * over_base[size]
    return {"batch": size, **found, "picked_ratio": steps[size] * over_base[size],
            "ratio": min(1.0, ratio)}  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def read_results() -> dict[str, Any]:
    """Return the grids and cells that are there already."""
    path = HERE / "results" / f"{NAME}.json"
    found: dict[str, Any] = {"grids": {}, "cells": {}}
    return json.loads(path.read_text())["results"] if path.exists() else found


def keep(results: dict[str, Any], kind: str, key: str, found: dict[str, Any]) -> None:
    """Add a result to the file, where another run may have added some meanwhile."""
    there = read_results()
    for each in there:
        results[each].update(there[each])
    results[kind][key] = found
    write_results(NAME, results)


def run_grids(results: dict[str, Any], cells: Iterable[Cell], ends_at: float) -> None:
    """Add the grids that the cells need, two at a time."""
    wanted = {cell.grid: cell for cell in cells if cell.grid not in results["grids"]}
    with ProcessPoolExecutor(2) as pool:
        waiting, running = list(wanted.items()), {}
        while waiting or running:
            while waiting and len(running) < 2 and time.monotonic() < ends_at:
                key, cell = waiting.pop(0)
                running[pool.submit(search_grid, cell.task, cell.schedule, cell.base)] = key
            if not running:
                return
            done = next(as_completed(running))
            key = running.pop(done)
            keep(results, "grids", key, done.result())
            print(key, results["grids"][key], flush=True)


def run_cells(
    results: dict[str, Any], cells: Iterable[Cell], ends_at: float, *, again: bool
) -> None:
    """Judge the cells that have no result, one after the other."""
    for cell in cells:
        if str(cell) in results["cells"] and not again:
            continue
        if time.monotonic() > ends_at or cell.grid not in results["grids"]:
            return
        try:
            found = judge(cell, results["grids"][cell.grid])
        except RuntimeError as error:  # left for the next run
            print(error, file=sys.stderr, flush=True)
            continue
        keep(results, "cells", str(cell), found)
        print(cell, found["pair"], found["promise"], found["ratio"], found["regret"], flush=True)


def main() -> None:
    """Run what is asked for and not there yet, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("cells", nargs="*", default=["*"], help="patterns of cells")
    parser.add_argument("--design", choices=("balanced", "full", "repeats"), default="balanced")
    parser.add_argument("--grids", action="store_true", help="only the tuned grids")
    parser.add_argument("--again", action="store_true", help="also cells that have a result")
    parser.add_argument("--within", type=float, default=math.inf, help="minutes to start cells in")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    arguments = parser.parse_args()
    ends_at = time.monotonic() + 60.0 * arguments.within
    results = read_results()
    cells = [
        cell
        for cell in list_cells(arguments.design)
        if any(fnmatch(str(cell), pattern) for pattern in arguments.cells)
    ]
    if not arguments.table:
        run_grids(results, cells, ends_at)
    if not arguments.table and not arguments.grids:
        run_cells(results, cells, ends_at, again=arguments.again)
    print(draw_table(results["cells"]))
    print_verdict(results["cells"])


if __name__ == "__main__":
    main()
