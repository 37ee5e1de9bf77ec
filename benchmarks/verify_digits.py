"""Does `bsadvisor verify` find the critical batch? On digits, against brute force.

Run: python benchmarks/verify_digits.py

For each of three seeds the tool probes examples/digits.py and verifies its own advice. Brute force
starts from the same number of steps of the base pair, trains every power of two from 8 to 1024 on
as many samples, and tunes the rate of each on a grid: the best rate by 5 seeds is trained again
with 10 fresh ones, so that luck does not choose. Both critical batches are the largest within the
margin of the best: 1 % of its loss, or 5 % of the fall from the common state where that is more.
"""

import copy
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from results import write_results
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn import functional

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "digits.py"
sys.path.insert(0, str(ROOT / "examples"))
import digits  # noqa: E402 - lies beside, not in a package

RUNS = (0, 1, 2)
BATCHES = tuple(2**k for k in range(3, 11))
#: Rates tried, by factors of sqrt 2 from 1/8 to 4.
RATES = tuple(2.0 ** (k / 2) for k in range(-6, 5))
TUNING_SEEDS = (100, 101, 102, 103, 104)
FINAL_SEEDS = tuple(range(200, 210))
#: Inputs and targets of the whole dataset.
DATA = digits.make_dataset().tensors  # type: ignore[attr-defined]
#: Shares of a branch at which its loss is read; their mean is its end.
READINGS = (0.9, 0.95, 1.0)


def main() -> None:
    """Run the tool and brute force for each seed, print the table, write the results."""
    torch.set_num_threads(1)
    rows = []
    for seed in RUNS:
        started = time.perf_counter()
        verification, raw = ask_the_tool(seed)
        tool_s = time.perf_counter() - started
        critical = verification["critical_batch"]
        ends, start = brute_force(seed, raw["trunk_steps"], raw["samples"])
        brute, margin = find_critical_batch(ends, start)
        found = critical["batch_size"]
        rows.append(
            {
                "seed": seed,
                "recommended": raw["recommended_batch_size"],
                "samples": raw["samples"],
                "verdict": verification["verdict"]["status"],
                "status": critical["status"],
                "critical_batch": found,
                "low": critical["low"],
                "high": critical["high"],
                "seeds": verification["seeds"],
                "tool_margin": critical["margin"],
                "probe_and_verify_s": tool_s,
                "brute_force": brute,
                "brute_force_margin": margin,
                "brute_force_ends": ends,
                "ratio": None if found is None else found / brute,
            }
        )
    write_table(rows)
    write_results("verify_digits", rows)


def ask_the_tool(seed: int) -> tuple[dict, dict]:  # type: ignore[type-arg]
    """Return the conclusion of `verify` and the record behind it."""
    tool = [sys.executable, "-m", "advisor.cli"]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run.json"
        probe = [*tool, "probe", str(EXAMPLE), "--json", str(run), "--quiet", "--seed", str(seed)]
        subprocess.run(probe, check=True, stdout=subprocess.DEVNULL)
        verify = [*tool, "verify", str(run), str(EXAMPLE), "--quiet"]
        subprocess.run(verify, check=False, stdout=subprocess.DEVNULL)
        document = json.loads(run.read_text())
    return document["derived"]["verification"], document["verification"]


def brute_force(seed: int, trunk_steps: int, samples: int) -> tuple[dict[int, float], float]:
    """Return the mean end loss of each batch at its best rate, and the loss at the start."""
    torch.manual_seed(seed)
    state = digits.make_model()
    train(state, digits.BASE_BATCH_SIZE, 1.0, trunk_steps * digits.BASE_BATCH_SIZE, seed)
    ends = {}
    for batch in BATCHES:
        tuned = {rate: mean_end(state, batch, rate, samples, TUNING_SEEDS) for rate in RATES}
        best = min(tuned, key=tuned.__getitem__)
        ends[batch] = mean_end(state, batch, best, samples, FINAL_SEEDS)
    return ends, evaluate(state)


def mean_end(
    state: nn.Module, batch: int, rate: float, samples: int, seeds: tuple[int, ...]
) -> float:
    """Return the mean end loss over seeds; infinity where one diverges."""
    ends = []
    for seed in seeds:
        end = train(copy.deepcopy(state), batch, rate, samples, seed)
        if not end < 10.0:
            return float("inf")
        ends.append(end)
    return statistics.fmean(ends)


def train(model: nn.Module, batch: int, rate: float, samples: int, seed: int) -> float:
    """Train the model in place and return its loss over the last readings."""
    inputs, targets = DATA
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    generator = torch.Generator().manual_seed(seed)
    order = torch.empty(0, dtype=torch.int64)
    steps = samples // batch
    readings = {round(share * steps) for share in READINGS}
    losses = []
    for step in range(1, steps + 1):
        while len(order) < batch:
            order = torch.cat([order, torch.randperm(len(inputs), generator=generator)])
        chosen, order = order[:batch], order[batch:]
        functional.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step in readings:
            losses.append(evaluate(model))
    return statistics.fmean(losses)


def evaluate(model: nn.Module) -> float:
    """Return the loss over the whole dataset."""
    inputs, targets = DATA
    with torch.no_grad():
        return float(functional.cross_entropy(model(inputs), targets))


def find_critical_batch(ends: dict[int, float], start: float) -> tuple[int, float]:
    """Return the largest batch within the margin of the best, and the margin."""
    lowest = min(ends.values())
    margin = max(0.01 * lowest, 0.05 * (start - lowest))
    return max(batch for batch, end in ends.items() if end <= lowest + margin), margin


def write_table(rows: list[dict]) -> None:  # type: ignore[type-arg]
    """Print one row for each run."""
    table = Table("seed", "advised", "verdict", "critical, verify", "brute force", "ratio", "time")
    for row in rows:
        ends = f"{row['low'] or '?'} to below {row['high'] or '?'}"
        table.add_row(
            str(row["seed"]),
            str(row["recommended"]),
            row["verdict"],
            f"{row['critical_batch']} ({ends}), {row['status']}",
            str(row["brute_force"]),
            "-" if row["ratio"] is None else f"{row['ratio']:.2f}",
            f"{row['probe_and_verify_s']:.0f} s",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
