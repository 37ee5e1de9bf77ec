"""The reported throughput against a training loop written by hand, on the same models.

Run: python benchmarks/throughput_against_loop.py

Nine times over, a throughput session of the tool and a hand-written loop run one after the other,
each in a fresh process, first the one and then the other; the median of the ratios is reported.
"""

import statistics
import subprocess
import sys
from pathlib import Path

import msgspec
from results import write_results
from rich.console import Console
from rich.table import Table

from advisor.measurements import Probe
from advisor.probe.runner import Runner
from advisor.spec import ThroughputTask, WorkloadSpec, parse_target

EXAMPLES = Path(__file__).parent.parent / "examples"
REPETITIONS = 9
SIZES = {"digits.py": 256, "char_lm.py": 32, "convnet.py": 32}

#: A loop as anyone writes it: warm up, then time steps on one batch.
LOOP = """
import importlib.util, statistics, sys, time, torch
path, size = sys.argv[1], int(sys.argv[2])
spec = importlib.util.spec_from_file_location("user_model", path)
user = importlib.util.module_from_spec(spec); sys.modules["user_model"] = user
spec.loader.exec_module(user)
torch.manual_seed(0)
model = user.make_model()
optimizer = user.make_optimizer(model)
if hasattr(user, "make_dataset"):
    data = user.make_dataset()
    order = torch.randperm(len(data))[:size].tolist()
    batch = torch.utils.data.default_collate([data[i] for i in order])
else:
    batch = user.make_batch(size)
def step():
    if hasattr(user, "loss_fn"):
        loss = user.loss_fn(model, batch)
    else:
        loss = torch.nn.functional.cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
start = time.perf_counter(); count = 0
while time.perf_counter() - start < 1.0:
    step(); count += 1
blocks = []
for _ in range(8):
    start = time.perf_counter(); n = max(1, count // 4)
    for _ in range(n):
        step()
    blocks.append((time.perf_counter() - start) / n)
print(size / statistics.median(blocks))
"""


def measure_by_hand(path: Path, size: int) -> float:
    """Return samples per second of the hand-written loop in a fresh process."""
    command = [sys.executable, "-c", LOOP, str(path), str(size)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_by_tool(runner: Runner, path: Path, size: int, session: int) -> float:
    """Return samples per second of one throughput session of the tool."""
    task = ThroughputTask(
        workload=WorkloadSpec(target=str(path), device="cpu"),
        micro_batch_sizes=(size,),
        session=session,
        block_s=0.25,
        rounds=8,
        budget_s=30.0,
    )
    (probe,) = runner.run(task, timeout_s=120.0)
    assert isinstance(probe, Probe)
    return size / statistics.median(probe.step_times_s)


def measure_pair(runner: Runner, path: Path, size: int, session: int) -> tuple[float, float]:
    """Return the tool's and the loop's samples per second; which runs first alternates."""
    if session % 2:
        by_hand = measure_by_hand(path, size)
        return measure_by_tool(runner, path, size, session), by_hand
    return measure_by_tool(runner, path, size, session), measure_by_hand(path, size)


def main() -> None:
    """Measure every example, print the table, write the results."""
    rows: list[dict[str, object]] = []
    for name, size in SIZES.items():
        path = EXAMPLES / name
        with Runner(parse_target(str(path))) as runner:
            pairs = [measure_pair(runner, path, size, session) for session in range(REPETITIONS)]
        rows.append(
            {
                "example": name,
                "micro_batch_size": size,
                "tool_samples_per_s": [tool for tool, _ in pairs],
                "loop_samples_per_s": [hand for _, hand in pairs],
                "median_ratio": statistics.median(tool / hand for tool, hand in pairs),
            }
        )
    table = Table("example", "batch", "tool (samples/s)", "loop (samples/s)", "median ratio")
    for row in rows:
        table.add_row(
            str(row["example"]),
            str(row["micro_batch_size"]),
            f"{statistics.median(row['tool_samples_per_s']):.0f}",  # type: ignore[call-overload]
            f"{statistics.median(row['loop_samples_per_s']):.0f}",  # type: ignore[call-overload]
            f"{row['median_ratio']:.3f}",
        )
    Console().print(table)
    write_results("throughput_against_loop", msgspec.to_builtins(rows))


if __name__ == "__main__":
    main()
