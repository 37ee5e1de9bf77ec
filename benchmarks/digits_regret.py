"""Is the advice good? The advised batch and rate on digits against brute force.

Run: python benchmarks/digits_regret.py

Every power of two from 8 to 1024 is trained with every rate of a grid, from 3 seeds each, until the
training loss reaches 0.15. A batch's time is the mean steps of its best rate times its measured
step time; a rate counts only if all its seeds reach the target. The advised pair is trained in the
same way, and so are three rules of thumb.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from results import write_results
from rich.console import Console
from rich.table import Table
from torch.nn import functional

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "examples"))
import digits  # noqa: E402 - lies beside, not in a package

TARGET_LOSS = 0.15
SEEDS = (100, 101, 102)  # none that the tool's own trial uses
BATCHES = tuple(2**k for k in range(3, 11))
#: Rates tried, by factors of sqrt 2 from 1/4 to 4.
RATES = tuple(2.0 ** (k / 2) for k in range(-4, 5))
#: Samples after which a run counts as not reaching the target.
MOST_SAMPLES = 20_000
#: The loss is looked at this often, in samples, but at most once a step.
LOOK_SAMPLES = 128
ROUNDS, BLOCK_S = 7, 0.1


def steps_to_target(batch_size: int, rate: float, seed: int) -> int | None:
    """Return the steps until the training loss is at the target, None where it never is."""
    torch.manual_seed(seed)
    inputs, targets = digits.make_dataset().tensors  # type: ignore[attr-defined]
    model = digits.make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64)
    look = max(1, LOOK_SAMPLES // batch_size)
    for step in range(1, MOST_SAMPLES // batch_size + 1):
        while len(order) < batch_size:
            order = torch.cat([order, torch.randperm(len(inputs), generator=generator)])
        chosen, order = order[:batch_size], order[batch_size:]
        functional.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step % look == 0:
            with torch.no_grad():
                loss = float(functional.cross_entropy(model(inputs), targets))
            if loss <= TARGET_LOSS:
                return step
            if loss != loss:  # noqa: PLR0124 - NaN
                return None
    return None


def mean_steps(batch_size: int, rate: float) -> float | None:
    """Return the mean steps over all seeds, None where one does not reach the target."""
    found = [steps_to_target(batch_size, rate, seed) for seed in SEEDS]
    return None if any(steps is None for steps in found) else float(np.mean(found))  # type: ignore[arg-type]


def measure_step_times(batches: list[int]) -> dict[int, float]:
    """Return the median seconds of a step for each batch, timed in interleaved blocks."""
    inputs, targets = digits.make_dataset().tensors  # type: ignore[attr-defined]
    model = digits.make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    times: dict[int, list[float]] = {batch: [] for batch in batches}
    for _ in range(ROUNDS):
        for batch in batches:
            chosen = torch.arange(batch) % len(inputs)
            one, two = inputs[chosen], targets[chosen]
            count, start = 0, time.perf_counter()
            while time.perf_counter() - start < BLOCK_S:
                functional.cross_entropy(model(one), two).backward()
                optimizer.step()
                optimizer.zero_grad()
                count += 1
            times[batch].append((time.perf_counter() - start) / count)
    return {batch: float(np.median(values)) for batch, values in times.items()}


def ask_the_tool() -> tuple[int, float]:
    """Return the batch and rate that `bsadvisor probe` advises."""
    path = ROOT / "examples" / "digits.py"
    command = [sys.executable, "-m", "advisor.cli", "probe", str(path), "--json", "-", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    advice = json.loads(done.stdout)["derived"]["recommendation"]
    return advice["global_batch_size"], advice["learning_rate"]["value"]


def main() -> None:
    """Brute force, ask the tool, print the table, write the results."""
    batch_size, rate = ask_the_tool()
    step_s = measure_step_times(sorted({*BATCHES, batch_size, 1797}))
    rows: list[dict[str, object]] = []
    for batch in BATCHES:
        tried = {each: mean_steps(batch, each) for each in RATES}
        reached = {each: steps for each, steps in tried.items() if steps is not None}
        if reached:
            best = min(reached, key=reached.__getitem__)
            rows.append(
                {
                    "choice": f"batch {batch}, tuned",
                    "batch": batch,
                    "rate": best,
                    "steps": reached[best],
                    "time_s": reached[best] * step_s[batch],
                }
            )
    best_s = min(float(str(row["time_s"])) for row in rows)
    choices = {
        "bsadvisor": (batch_size, rate),
        "base pair": (32, 1.0),
        "linear scaling to 256": (256, 8.0),
        "whole dataset, base rate": (1797, 1.0),
    }
    for name, (batch, chosen) in choices.items():
        steps = mean_steps(batch, chosen)
        if batch not in step_s:
            step_s |= measure_step_times([batch])
        rows.append(
            {
                "choice": name,
                "batch": batch,
                "rate": chosen,
                "steps": steps,
                "time_s": None if steps is None else steps * step_s[batch],
            }
        )
    for row in rows:
        row["ratio_to_best"] = None if row["time_s"] is None else float(str(row["time_s"])) / best_s
    table = Table("choice", "batch", "rate", "steps to 0.15", "time (ms)", "x best")
    for row in rows:
        reached_it = row["time_s"] is not None
        table.add_row(
            str(row["choice"]),
            str(row["batch"]),
            f"{row['rate']:.3g}",
            f"{row['steps']:.0f}" if reached_it else "never",
            f"{1000 * float(str(row['time_s'])):.1f}" if reached_it else "-",
            f"{row['ratio_to_best']:.2f}" if reached_it else "-",
        )
    Console().print(table)
    write_results("digits_regret", rows)


if __name__ == "__main__":
    main()
