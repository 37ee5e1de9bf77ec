"""Is the advice good? The advised batch and rate against brute force, on six real trainings.

Run: python benchmarks/regret.py [TASK ...]

For each task of benchmarks/tasks powers of two, outwards from the base batch until one takes 3
times as long as the best, are trained to the task's loss with rates a factor sqrt 2 apart, each
climbed to its best, from 3 seeds. A batch's time is the mean steps of its best rate times its
measured step time; a rate counts only if every seed reaches the target. The base pair of the task
is its base batch with the best rate found for it: what a user has who tuned once. It is given to
`bsadvisor probe`, together with the steps that it takes (`--noise-steps`: how long the user
trains), and what the tool prints is trained in the same way: batch, rate and the optimizer's other
settings. So are three rules of thumb, all from the same base pair: batch 32, the largest batch with
the base rate, and the rate scaled in proportion at the tool's batch. All of it runs on one thread.
"""

import argparse
import math
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from results import write_results
from rich.console import Console
from rich.table import Table
from training_tasks import Pair, Trainer, ask_the_tool, compute_loss, list_tasks, load_task

SMALLEST_BATCH, LARGEST_BATCH = 4, 2048
ROUNDS, BLOCK_S = 7, 0.1
#: Time to the target over the best so far from which on no batch further out is tried.
GIVE_UP_RATIO = 3.0
#: Steps of the first rate at a batch over those in proportion to its neighbour's samples.
FIRST_STEPS_RATIO = 4.0


def time_steps(name: str, sizes: list[int]) -> dict[int, float]:
    """Return the median seconds of a step for each batch, timed in interleaved blocks."""
    torch.set_num_threads(1)  # as the trainings and the tool
    task = load_task(name)
    inputs, targets = task.make_dataset().tensors
    model = task.make_model()
    optimizer = task.make_optimizer(model, lr=1e-6)
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(ROUNDS):
        for size in sizes:
            chosen = torch.arange(size) % len(inputs)
            one, two = inputs[chosen], targets[chosen]
            count, start = 0, time.perf_counter()
            while time.perf_counter() - start < BLOCK_S:
                compute_loss(model, one, two).backward()
                optimizer.step()
                optimizer.zero_grad()
                count += 1
            times[size].append((time.perf_counter() - start) / count)
    return {size: statistics.median(values) for size, values in times.items()}


def search(
    trainer: Trainer, base: int, default: float, step_s: dict[int, float]
) -> dict[int, tuple[float, float]]:
    """Return the best rate and its steps by batch, outwards from the base batch.

    A direction ends at a batch that takes `GIVE_UP_RATIO` times as long as the best one so far.
    """
    best = trainer.climb(base, default)
    assert best is not None, "the base batch does not train"
    found = {base: best}
    above = [size for size in sorted(step_s) if size > base]
    below = [size for size in sorted(step_s, reverse=True) if size < base]
    for sizes in (above, below):
        near = base
        for size in sizes:
            rate, steps = found[near]
            best = trainer.climb(size, rate, FIRST_STEPS_RATIO * steps * max(1.0, near / size))
            if best is None:
                break
            found[size], near = best, size
            times = {each: found[each][1] * step_s[each] for each in found}
            if times[size] > GIVE_UP_RATIO * min(times.values()):
                break
    return found


def run_task(name: str, pool: ProcessPoolExecutor) -> dict[str, Any]:
    """Return brute force, the tool's advice and the rules of thumb on one task."""
    task = load_task(name)
    most = min(LARGEST_BATCH, len(task.make_dataset()))
    base = task.BASE_BATCH_SIZE
    trainer = Trainer(name, pool)
    default = task.make_optimizer(task.make_model()).param_groups[0]["lr"]
    sizes = [2**k for k in range(2, 12) if SMALLEST_BATCH <= 2**k <= most]
    step_s = time_steps(name, sizes)
    found = search(trainer, base, default, step_s)
    base_rate, base_steps = found[base]
    advised, derived = ask_the_tool(name, base_rate, round(base_steps))
    choices: dict[str, Pair | None] = {
        "bsadvisor": advised,
        "base pair": {"batch": base, "rate": base_rate},
        "batch 32, base rate": {"batch": 32, "rate": base_rate},
        "largest, base rate": {"batch": len(task.make_dataset()), "rate": base_rate},
    }
    if advised is not None:
        linear = base_rate * advised["batch"] / base
        choices["linear scaling"] = {"batch": advised["batch"], "rate": linear}
    timed = {*found, *(pair["batch"] for pair in choices.values() if pair is not None)}
    step_s = time_steps(name, sorted(timed))  # in one go, after all that loads the machine
    rows: list[dict[str, Any]] = [
        {"choice": f"batch {size}, tuned", "batch": size, "rate": rate, "steps": steps}
        for size, (rate, steps) in sorted(found.items())
    ]
    for choice, pair in choices.items():
        steps = None if pair is None else trainer.mean_steps(pair)
        rows.append({"choice": choice, **(pair or {"batch": None, "rate": None}), "steps": steps})
    for row in rows:
        row["time_s"] = None if row["steps"] is None else row["steps"] * step_s[row["batch"]]
    best_s = min(row["time_s"] for row in rows if "tuned" in row["choice"] and row["time_s"])
    for row in rows:
        row["ratio_to_best"] = None if row["time_s"] is None else row["time_s"] / best_s
    return {"task": name, "target_loss": task.TARGET_LOSS, "rows": rows, "derived": derived}


def main() -> None:
    """Run the tasks, print a table for each and the summary, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("tasks", nargs="*", default=list_tasks())
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    results, console = [], Console()
    with ProcessPoolExecutor(2) as pool:
        for name in arguments.tasks:
            result = run_task(name, pool)
            derived = result.pop("derived")
            noise = derived["noise"]
            result["noise_scale"] = noise["preconditioned_noise_scale"] or noise["noise_scale"]
            result["reason"] = derived["recommendation"]["learning_rate"]["reason"]
            results.append(result)
            print_task(console, result)
            if not arguments.no_write:  # after each: they take minutes
                write_results("regret", results)
    ratios = [row["ratio_to_best"] for result in results for row in result["rows"]
              if row["choice"] == "bsadvisor"]  # fmt: skip
    known = [ratio if ratio is not None else math.inf for ratio in ratios]
    console.print(f"bsadvisor: median {statistics.median(known):.2f}, worst {max(known):.2f}")


def print_task(console: Console, result: dict[str, Any]) -> None:
    """Print one task's table."""
    table = Table("choice", "batch", "rate", "steps", "time (ms)", "x best", title=result["task"])
    for row in result["rows"]:
        reached = row["time_s"] is not None
        table.add_row(
            row["choice"],
            str(row["batch"]),
            "-" if row["rate"] is None else f"{row['rate']:.3g}",
            f"{row['steps']:.0f}" if reached else "never",
            f"{1000 * row['time_s']:.1f}" if reached else "-",
            f"{row['ratio_to_best']:.2f}" if reached else "-",
        )
    console.print(table)
    console.print(result["noise_scale"], result["reason"])


if __name__ == "__main__":
    main()
