"""One training as the user's own script and as a model file: does the tool say the same of both?

Run: python benchmarks/script_against_model.py [--repeats N]

The script is `examples/train_digits.py`; the model file has its parts, with the schedule, clipping
and loader that the script has. Both are probed in turns by default options.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from results import write_results

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "examples" / "train_digits.py"
MODEL_FILE = f"""
import runpy

import torch
from torch import nn

BASE_BATCH_SIZE, CLIP_GRAD_NORM = 32, 1.0


def make_dataset():
    return runpy.run_path({str(SCRIPT)!r})["load_data"](0)[0]


def make_model():
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))


def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.5)


def make_scheduler(optimizer, total_steps):
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, total_steps)
"""
ARGUMENTS = ("--batch-size", "{batch_size}", "--lr", "{learning_rate}")


def probe(target: str, *arguments: str) -> dict[str, Any]:
    """Return what is said of one of the two."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "model.py").write_text(MODEL_FILE)
        Path(folder, SCRIPT.name).write_text(SCRIPT.read_text())
        command = [sys.executable, "-m", "advisor.cli", "probe", target, "--quiet"]
        subprocess.run(
            [*command, "--device", "cpu", "--json", "run.json", *arguments],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
        )
        document = json.loads(Path(folder, "run.json").read_text())
    derived, base = document["derived"], document["workload"]["base_batch_size"]
    advice, noise, race = derived["recommendation"], derived["noise"], derived["race"]
    steps = {each["global_batch_size"]: each["step_s"] for each in derived["frontier"]["points"]}
    return {
        "elapsed_s": document["elapsed_s"],
        "largest_micro_batch_size": derived["memory"]["max_micro_batch_size"],
        "base": [base, document["workload"]["optimizer"]["learning_rate"]],
        "base_step_s": steps[base]["low"],
        "noise_scale": noise["noise_scale"],
        "advised": [advice["global_batch_size"], advice["learning_rate"]["value"]],
        "basis": advice["basis"],
        "printed": advice["expected"]["time_ratio"],
        "pairs": [
            [each["global_batch_size"], each["learning_rate"], each["time_ratio"]]
            for each in race["pairs"]
        ],
    }


def main() -> None:
    """Probe both in turns, and store what is said."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=3)
    rows: dict[str, list[dict[str, Any]]] = {"script": [], "model file": []}
    for _ in range(parser.parse_args().repeats):
        rows["script"].append(probe(SCRIPT.name, "--", *ARGUMENTS))
        rows["model file"].append(probe("model.py"))
        for name, found in rows.items():
            print(name, {key: found[-1][key] for key in found[-1] if key != "pairs"})
    print(write_results("script_against_model", rows))


if __name__ == "__main__":
    main()
