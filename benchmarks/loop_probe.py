"""What `bsadvisor probe` advises in a cell, asked as a user would: a model file and options."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from loop_cells import Cell
from loop_grid import count_steps
from loop_trainings import ROOT, Pair, load
from loops import Evaluation, take_low
from results import HERE

#: Part of the base rate within which a rate is the same.
SAME_RATE_FRACTION = 1e-3
MODEL_FILE = """
import sys

sys.path.insert(0, {benchmarks!r})
from loop_trainings import load

task = load({task!r})
BASE_BATCH_SIZE, make_model = task.BASE_BATCH_SIZE, task.make_model


def make_optimizer(model):
    optimizer = task.make_optimizer(model)
    for group in optimizer.param_groups:
        group["lr"] = {rate!r}
    return optimizer
"""
DATASET = """
make_dataset = task.make_dataset
"""
SLOW_LOADER = """
from loops import make_batches
from pytorch_lightning import LightningDataModule


class Data(LightningDataModule):
    def train_dataloader(self):
        dataset = task.make_dataset()
        return make_batches("slow", dataset, BASE_BATCH_SIZE, len(dataset))
"""
SCHEDULER = """
from loops import make_scheduler
"""


def ask_the_tool(cell: Cell, base: Pair) -> dict[str, Any]:
    """Return what `bsadvisor probe` advises, and what it promises."""
    options = []
    if cell.loop == "memory":
        options = ["--no-loader"]
    if cell.loop == "evaluation" and cell.is_told:
        evaluation = Evaluation(load(cell.task))
        seconds = take_low([evaluation.run() for _ in range(5)])
        options = ["--epoch-overhead", f"{seconds:.6f}"]
    text = MODEL_FILE.format(benchmarks=str(HERE), task=cell.task, rate=base["rate"])
    text += SLOW_LOADER if cell.loop == "slow" else DATASET
    if cell.schedule == "cosine":
        text += SCHEDULER
        options += ["--train-steps", str(count_steps(cell.task, cell.schedule))]
    with tempfile.TemporaryDirectory() as folder:
        model, answer = Path(folder, "model.py"), Path(folder, "run.json")
        model.write_text(text)
        command = [sys.executable, "-m", "advisor.cli", "probe", str(model), "--quiet"]
        started = time.perf_counter()
        done = subprocess.run(
            [*command, "--json", str(answer), *options],
            cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode not in {0, 3} or not answer.exists():
            raise RuntimeError(f"{cell}: exit {done.returncode}\n{done.stderr[-2000:]}")
        advice = json.loads(answer.read_text())["derived"]["recommendation"]
    told = {"options": options, "probe_s": time.perf_counter() - started}
    return {**told, **read_advice(advice, base)}


def read_advice(advice: dict[str, Any] | None, base: Pair) -> dict[str, Any]:
    """Return the pair that a user takes from it, and the promised ratio.

    Without advice he stays; where a batch is printed without a rate he keeps his rate.
    """
    if advice is None:
        return {"pair": base, "micro": [base["batch"], 1], "promise": None}
    rate, changes = advice["learning_rate"]["value"], advice["optimizer_changes"]
    ratio = advice["expected"]["time_ratio"]
    return {
        "pair": {
            "batch": advice["global_batch_size"],
            "rate": base["rate"] if rate is None else rate,
            "beta2": None if rate is None else changes["beta2"],
            "weight_decay": None if rate is None else changes["weight_decay"],
        },
        "micro": [advice["micro_batch_size"], advice["gradient_accumulation_steps"]],
        "rate_reason": advice["learning_rate"]["reason"],
        "promise": ratio if isinstance(ratio, dict) or ratio is None else {"point": ratio},
        "is_measured": advice["expected"].get("is_measured"),
    }


def is_stay(pair: Pair, base: Pair) -> bool:
    """Return whether the pair is the user's own."""
    return bool(
        pair["batch"] == base["batch"]
        and abs(pair["rate"] / base["rate"] - 1.0) <= SAME_RATE_FRACTION
        and pair.get("beta2") is None
        and pair.get("weight_decay") is None
    )
