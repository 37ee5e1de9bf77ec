"""Seconds of a step in the user's loop: what the tool says against loops written by hand.

Run: python benchmarks/loop_time.py [--repeats 5]

    tool: the loop at 32, 128, 512 and 8 | by hand: whole epochs, at four sizes | tool | ...

Each is a process of its own. Ratios to the step at 32 are compared, as they decide; sizes between
those that the tool times go by the steps alone, as the loop by hand times them between its epochs.
An epoch lasts until its loader is at its end.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from itertools import repeat
from pathlib import Path
from typing import Any

from loop_by_hand import load_model_file
from results import write_results

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

#: By hand; and those that the tool times.
SIZES = (16, 32, 64, 256, 512)
BASE, OTHERS = 32, (128, 512, 8)
#: Timed at each size in one process, and how often.
LEAST_S, TIMES, MOST_STEPS = 0.2, 2, 60

DIGITS, WAITING = HERE.parent / "examples" / "digits.py", HERE / "models" / "waiting_loader.py"
CASES: dict[str, tuple[Path, dict[str, float]]] = {
    "tensors, 0 workers": (DIGITS, {}),
    "waiting samples, 0 workers": (WAITING, {"workers": 0}),
    "waiting samples, 2 workers": (WAITING, {"workers": 2}),
    "waiting steps, 2 workers": (WAITING, {"workers": 2, "step_s": 5e-4}),
    "waiting steps, 2 that stay": (WAITING, {"workers": 2, "step_s": 5e-4, "persistent": True}),
    "tensors, 2 that stay": (WAITING, {"workers": 2, "wait_s": 0, "step_s": 0, "persistent": True}),
}


def time_by_hand(path: Path, settings: dict[str, Any]) -> dict[int, dict[str, float]]:
    """Return for each size the seconds of a step alone and of one in the loop."""
    import torch
    from torch.nn.functional import cross_entropy
    from torch.utils.data import DataLoader

    user = load_model_file(path)
    model = user.make_model(**{k: v for k, v in settings.items() if k == "step_s"})
    optimizer = user.make_optimizer(model)
    dataset, options = read_data(user, settings)

    def step(inputs: torch.Tensor, targets: torch.Tensor) -> None:
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    found = {}
    for size in SIZES:
        loader = DataLoader(dataset, size, shuffle=True, drop_last=True, **options)
        for batch in loader:
            step(*batch)
        alone, epochs = [], []
        for _ in range(TIMES):
            alone.append(time_steps(step, repeat(batch, MOST_STEPS)) / MOST_STEPS)
            began = time.perf_counter()
            while time.perf_counter() - began < LEAST_S:
                epochs.append(time_steps(step, loader) / len(loader))
        found[size] = {"step_s": statistics.median(alone), "loop_s": statistics.median(epochs)}
    return found


def read_data(user: Any, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the dataset, and the options of its loader."""
    if not hasattr(user, "Data"):
        return user.make_dataset(), {}
    data = user.Data(**{k: v for k, v in settings.items() if k != "step_s"})
    return user.Waiting(data.wait_s), data.options


def time_steps(step: Callable[..., None], batches: Iterable[Any]) -> float:
    """Return the seconds of these steps, waits and the end of the batches included."""
    start = time.perf_counter()
    for batch in batches:
        step(*batch)
    return time.perf_counter() - start


def compare(name: str, repeats: int) -> dict[str, Any]:
    """Return the tool's ratio of steps over that by hand for each size, by pairs of processes."""
    from advisor.engine.runner import Runner
    from advisor.loader.data import LoopTask
    from advisor.loader.loop import conclude_loop
    from advisor.race.loop_time import LoopTimes
    from advisor.throughput.step_time import StepTimes
    from advisor.training.data import WorkloadSpec

    path, settings = CASES[name]
    texts = {key: str(value) for key, value in settings.items()}
    workload = WorkloadSpec(target=str(path), device="cpu", settings=texts)
    task = LoopTask(workload=workload, micro_batch_sizes=(BASE, *OTHERS), budget_s=12.0)
    ratios: dict[int, list[float]] = {size: [] for size in SIZES if size != BASE}
    shares, took_s = {}, []
    for _ in range(repeats):
        with Runner(None) as runner:
            start = time.perf_counter()
            timings = runner.run(task, timeout_s=100)
            took_s.append(time.perf_counter() - start)
        command = [sys.executable, __file__, "--loop", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        seen = {int(size): each for size, each in json.loads(done.stdout.splitlines()[-1]).items()}
        times = LoopTimes(
            steps=StepTimes(step_s={size: each["step_s"] for size, each in seen.items()}),
            loop=conclude_loop(timings),
            is_loaded=True,
            epoch_per_sample_s=0.0,
            dataset_size=1797,
        )
        base_s = times.estimate_s(BASE)
        assert base_s is not None
        for size, each in ratios.items():
            told = (times.estimate_s(size) or 0.0) / base_s
            each.append(told * seen[BASE]["loop_s"] / seen[size]["loop_s"])
            shares[size] = 1.0 - seen[size]["step_s"] / seen[size]["loop_s"]
    return {
        "tool_over_loop": ratios,
        "median": {size: statistics.median(each) for size, each in ratios.items()},
        "loading_share_of_loop": shares,
        "tool_s": statistics.median(took_s),
    }


def main() -> None:
    """Compare every case, print and write the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--loop", choices=CASES)
    parser.add_argument("--only")
    options = parser.parse_args()
    if options.loop:
        path, settings = CASES[options.loop]
        print(json.dumps(time_by_hand(path, settings)))
        return
    results = {}
    for name in CASES:
        if options.only is None or options.only in name:
            results[name] = compare(name, options.repeats)
            middle = results[name]["median"]
            ratios = "  ".join(f"{size}: {ratio:.3f}" for size, ratio in middle.items())
            print(f"{name:28} {ratios}  tool {results[name]['tool_s']:.1f} s", flush=True)
    if options.only is None:
        print(write_results("loop_time", results))


if __name__ == "__main__":
    main()
