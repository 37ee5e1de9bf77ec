"""Seconds of a step in the user's loop: the law of the loader against loops written by hand.

Run: python benchmarks/loop_time.py [--repeats 5]

    tool: loader at 32 and 256 | by hand: step alone, whole epochs, at four sizes | tool | ...

Each is a process of its own. The step alone that goes into the law is the loop's own, timed between
its epochs: the law is judged, not the throughput. An epoch lasts until its loader is at its end.
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

SIZES = (16, 64, 256, 1024)
BASE, OTHER = 32, 256
#: Timed at each size in one process, and how often.
LEAST_S, TIMES, MOST_STEPS = 0.2, 2, 60

DIGITS, WAITING = HERE.parent / "examples" / "digits.py", HERE / "tasks" / "waiting_loader.py"
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
        alone, steps, starts, ends = [], [], [], []
        for _ in range(TIMES):
            alone += time_steps(step, repeat(batch, MOST_STEPS))
            began = time.perf_counter()
            while time.perf_counter() - began < LEAST_S:
                epoch = time_steps(step, loader)
                starts.append(epoch[0])
                steps += epoch[1:]
                ends.append(sum(epoch))
        within = statistics.median(steps or starts)
        found[size] = {
            "step_s": statistics.median(alone),
            "loop_s": (statistics.median(starts) + (len(loader) - 1) * within) / len(loader),
            "epoch_s": statistics.median(ends) / len(loader),
        }
    return found


def read_data(user: Any, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Return the dataset, and the options of its loader."""
    if not hasattr(user, "Data"):
        return user.make_dataset(), {}
    data = user.Data(**{k: v for k, v in settings.items() if k != "step_s"})
    return user.Waiting(data.wait_s), data.options


def time_steps(step: Callable[..., None], batches: Iterable[Any]) -> list[float]:
    """Return the seconds of each step, its wait for data included."""
    seconds, start = [], time.perf_counter()
    for batch in batches:
        step(*batch)
        now = time.perf_counter()
        seconds.append(now - start)
        start = now
    return seconds


def compare(name: str, repeats: int) -> dict[str, Any]:
    """Return law over loop for each size, by pairs of processes."""
    from advisor.engine.runner import Runner
    from advisor.engine.spec import Limits
    from advisor.loader.data import LoaderTask
    from advisor.loader.plan import add_epoch, conclude_loader, estimate_loop_step_s
    from advisor.training.data import WorkloadFacts, WorkloadSpec

    path, settings = CASES[name]
    texts = {key: str(value) for key, value in settings.items()}
    workload = WorkloadSpec(target=str(path), device="cpu", settings=texts)
    task = LoaderTask(workload=workload, micro_batch_size=BASE, other_sizes=(OTHER,), budget_s=12.0)
    nothing = dict.fromkeys(("file", "model_name", "how_model", "how_loss", "how_optimizer"), "")
    facts = WorkloadFacts(**nothing, how_batch="", dataset_size=1797)
    ratios: dict[int, list[float]] = {size: [] for size in SIZES}
    shares, took_s, laws = {}, [], []
    for _ in range(repeats):
        with Runner(None) as runner:
            start = time.perf_counter()
            timings = runner.run(task, timeout_s=100)
            took_s.append(time.perf_counter() - start)
        loader = add_epoch(conclude_loader(timings), timings, facts, Limits())
        assert loader is not None
        command = [sys.executable, __file__, "--loop", name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        for size, seen in json.loads(done.stdout.splitlines()[-1]).items():
            law_s = estimate_loop_step_s(seen["step_s"], int(size), int(size), loader)
            ratios[int(size)].append(law_s / seen["loop_s"])
            shares[int(size)] = 1.0 - seen["step_s"] / seen["loop_s"]
        fields = ("fixed_s", "per_sample_s", "hidden_fractions", "epoch_per_sample_s", "log_error")
        laws.append({field: getattr(loader, field) for field in fields})
    return {
        "law_over_loop": ratios,
        "median": {size: statistics.median(each) for size, each in ratios.items()},
        "loading_share_of_loop": shares,
        "tool_s": statistics.median(took_s),
        "laws": laws,
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
            print("    ", results[name]["laws"][-1], flush=True)
    if options.only is None:
        print(write_results("loop_time", results))


if __name__ == "__main__":
    main()
