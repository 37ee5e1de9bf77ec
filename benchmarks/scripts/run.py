"""The table of README.md: each script probed, then trained at its own pair and the advised."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from results import write_results  # noqa: E402
from scripts.data import make_instructions, make_letters, make_mnist  # noqa: E402

#: Of a probe; of a training.
BUDGET_S, TRAINING_S = 180.0, 20.0
STARTS = 3
#: Steps over which a loss is averaged, as a share of a run.
WINDOW = 0.05


class Script(NamedTuple):
    """A public training script.

    Attributes:
        folder: Of the checkout, and below it where the command is run.
        command: The script and its arguments.
        prepare: Makes its data.
        path: Below the checkout, for `PYTHONPATH`.
    """

    folder: str
    command: str
    prepare: Callable[[Path], None] | None = None
    path: str = ""


_GPT = "--device=cpu --compile=False --eval_iters=1 --log_interval=1000 --block_size=64"
_DLRM = "--arch-sparse-feature-size=16 --arch-mlp-bot=13-64-16 --arch-mlp-top=64-32-1"
SCRIPTS = {
    "nanogpt": Script(
        "nanoGPT",
        f"train.py config/train_shakespeare_char.py {_GPT} --n_layer=4 --n_head=4 --n_embd=128 "
        "--dropout=0.0 --batch_size={batch_size=12} --learning_rate={learning_rate}",
        make_letters,
    ),
    "mnist": Script(
        "examples/mnist",
        "main.py --no-accel --batch-size {batch_size} --lr {learning_rate}",
        lambda folder: make_mnist(folder.parent / "data"),
    ),
    "vae": Script(
        "examples/vae",
        "main.py --no-accel --batch-size {batch_size}",
        lambda folder: make_mnist(folder.parent / "data"),
    ),
    "word_language_model": Script(
        "examples/word_language_model",
        "main.py --model LSTM --emsize 64 --nhid 64 --batch_size {batch_size} --lr {learning_rate}",
    ),
    "imagenet": Script(
        "examples/imagenet",
        "main.py --dummy -a squeezenet1_1 -j 0 -b {batch_size=8} --lr {learning_rate=0.01}",
    ),
    "mingpt": Script(
        "minGPT",
        "projects/adder/adder.py --trainer.device=cpu --trainer.num_workers=0 "
        "--trainer.batch_size={batch_size} --trainer.learning_rate={learning_rate}",
        path=".",
    ),
    "dlrm": Script(
        "dlrm",
        f"dlrm_s_pytorch.py {_DLRM} --arch-embedding-size=1000-1000-1000 --data-size=200000 "
        "--num-batches=0 --loss-function=bce --round-targets=True --print-freq=1000000 "
        "--mini-batch-size={batch_size=128} --learning-rate={learning_rate}",
    ),
    "lightning": Script(
        "pytorch-lightning/examples/pytorch/basics",
        "autoencoder.py --trainer.accelerator=cpu --trainer.enable_progress_bar=false "
        "--data.batch_size={batch_size}",
        lambda folder: make_mnist(folder / "data", folder.parents[1] / "Datasets"),
    ),
    "alpaca": Script(
        "stanford_alpaca",
        "train.py --model_name_or_path small --data_path sums.json --output_dir out --use_cpu "
        "--model_max_length 256 --report_to none --save_strategy no --num_train_epochs 3 "
        "--warmup_ratio 0.03 --lr_scheduler_type cosine "
        "--per_device_train_batch_size {batch_size=8} --learning_rate {learning_rate=0.0005}",
        make_instructions,
    ),
    "timm": Script(
        "pytorch-image-models",
        "train.py --dataset torch/mnist --data-dir data --num-classes 10 --model resnet10t "
        "--in-chans 1 --input-img-mode L --input-size 1 28 28 --mean 0.13 --std 0.31 --no-aug "
        "--device cpu --workers 1 --no-prefetcher --opt sgd --log-interval 100000 "
        "-b {batch_size=32} --lr {learning_rate=0.05}",
        lambda folder: make_mnist(folder / "data"),
    ),
}


def probe(python: str, script: Script, folder: Path, out: Path) -> dict[str, Any]:
    """Return what the command said."""
    name, *arguments = script.command.split()
    command = [python, "-m", "advisor.cli", "probe", name, "--quiet", "--device", "cpu"]
    command += ["--budget", f"{BUDGET_S:.0f}s", "--json", str(out), "--", *arguments]
    began = time.monotonic()
    ended = subprocess.run(
        command,
        cwd=folder,
        env=_environment(script, folder),
        text=True,
        capture_output=True,
        check=False,
    )
    row: dict[str, Any] = {
        "command": script.command,
        "exit_code": ended.returncode,
        "seconds": round(time.monotonic() - began, 1),
        "said": ended.stdout.strip().splitlines()[:2],
    }
    if ended.returncode not in {0, 3}:
        marked = ended.stderr[ended.stderr.rfind("bsadvisor: ") :]
        row["said"] = marked.strip().splitlines()[:2]
        return row
    document = json.loads(out.read_text())
    facts, advice = document["workload"], document["derived"]["recommendation"]
    plan = document.get("time_plan") or {}
    row |= {
        "start_s": plan.get("start_s"),
        "base": [facts["base_batch_size"], facts["optimizer"]["learning_rate"]],
        "is_sum": facts["loss_reduction"] == "sum",
        "noise_scale": (document["derived"]["noise"] or {}).get("noise_scale"),
    }
    if advice is not None:
        row |= {
            "basis": advice["basis"],
            "advised": [advice["global_batch_size"], advice["learning_rate"]["value"]],
            "printed": advice["expected"]["time_ratio"],
            "paste": advice["snippet"].splitlines(),
        }
    return row


def train(
    python: str, script: Script, folder: Path, command: list[str], seed: int, settings: str = ""
) -> Any:
    """Return time and loss of each step."""
    environment = {**_environment(script, folder), "FOLLOW_SETTINGS": settings}
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        arguments = [python, str(HERE / "follow.py"), out.name, str(TRAINING_S), str(seed)]
        subprocess.run(
            [*arguments, *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            check=False,
        )
        return np.array(json.loads(Path(out.name).read_text() or "[]"))


def compare(own: list[Any], advised: list[Any]) -> dict[str, Any]:
    """Return the times to the lowest loss that all runs reached, and their ratio."""
    curves = [[_smooth(run) for run in side] for side in (own, advised)]
    level = max(curve[:, 1].min() for side in curves for curve in side)
    times = [
        [float(curve[np.argmax(curve[:, 1] <= level), 0]) for curve in side] for side in curves
    ]
    medians = [float(np.median(side)) for side in times]
    return {
        "loss": float(level),
        "own_s": times[0],
        "advised_s": times[1],
        "real": medians[1] / medians[0],
    }


def _smooth(run: Any) -> Any:
    """Return the running mean of the loss, by the time of the window's end."""
    width = max(1, int(WINDOW * len(run)))
    means = np.convolve(run[:, 1], np.ones(width) / width, mode="valid")
    return np.stack([run[width - 1 :, 0], means], axis=1)


def _environment(script: Script, folder: Path) -> dict[str, str]:
    path = [str(HERE.parent.parent), *([str(folder / script.path)] if script.path else [])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path), "OMP_NUM_THREADS": "1"}


def main() -> None:
    """Write a row for each script."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", default=[*SCRIPTS])
    parser.add_argument("--python", default=sys.executable)
    settings = parser.parse_args()
    results = HERE.parent / "results" / "scripts.json"
    rows = json.loads(results.read_text())["results"] if results.exists() else {}
    for name in settings.names:
        script = SCRIPTS[name]
        folder = (settings.folder / script.folder).resolve()
        if script.prepare is not None:
            script.prepare(folder)
        with tempfile.TemporaryDirectory() as scratch:
            row = probe(settings.python, script, folder, Path(scratch) / "run.json")
        if row.get("basis") in {"winner", "given"}:
            sides: list[list[Any]] = [[], []]
            own = _fill(script.command, *row["base"])
            advised, *lines = row["paste"]
            lines = [line.strip() for line in lines if line.startswith("    ")]
            for seed in range(STARTS):
                sides[0].append(train(settings.python, script, folder, own, seed))
                command = advised.removeprefix("python ").split()
                run = train(settings.python, script, folder, command, seed, "\n".join(lines))
                if row["is_sum"]:  # as large as one of the own batch would be
                    run[:, 1] *= row["base"][0] / row["advised"][0]
                sides[1].append(run)
            row |= compare(*sides)
        rows[name] = row
        print(name, json.dumps(row))
        write_results("scripts", rows)


def _fill(command: str, batch_size: int, learning_rate: float) -> list[str]:
    from advisor.training.script.arguments import Filling, fill

    filling = Filling(batch_size=batch_size, learning_rate=learning_rate)
    return fill(command.split(), filling)


if __name__ == "__main__":
    main()
