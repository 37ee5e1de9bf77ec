"""Does the gate keep its word on a real machine? Checks of the same code, and of code made worse.

Run: python benchmarks/gate_real.py [--checks 20]. In a repository of its own: checks of one commit
against its own baseline; a model with an extra layer, about a tenth slower, by `--against`; memory
raised by three per cent; and a load beside the sessions, of both sides and of the new one alone.
"""

import argparse
import collections
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from results import write_results

WIDTH, LAYERS = 256, 10
#: What of the peak a buffer that training holds takes.
MORE_MEMORY = 0.03
MODEL = """
import torch
from torch import nn

BASE_BATCH_SIZE = 512
HELD = {held}  # float32 values


class Net(nn.Sequential):
    def __init__(self):
        pairs = [(nn.Linear({width}, {width}), nn.ReLU()) for _ in range({layers})]
        super().__init__(*(part for pair in pairs for part in pair), nn.Linear({width}, 10))
        self.held = torch.ones(HELD)


def make_model():
    return Net()


def make_batch(batch_size):
    return torch.randn(batch_size, {width}), torch.randint(10, (batch_size,))


def make_optimizer(model):
    return torch.optim.SGD(model.parameters(), lr=0.01)
"""
LOAD = "while True: sum(range(100000))"


def write_model(folder: Path, *, layers: int = LAYERS, held: int = 1) -> None:
    """Write the model file, and commit it."""
    text = MODEL.format(layers=layers, width=WIDTH, held=held)
    (folder / "model.py").write_text(text)
    git(folder, "add", "model.py")
    git(folder, "commit", "--quiet", "--allow-empty", "-m", f"{layers} layers, {held} held")


def git(folder: Path, *arguments: str) -> None:
    """Run git as nobody in particular."""
    identity = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    """Return how a command ended, and its verdicts."""
    command = [sys.executable, "-m", "advisor.cli", *arguments, "--json", "out.json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    document = json.loads((folder / "out.json").read_text())
    found = (document["derived"] or {}).get("comparison") or {"outcome": None, "verdicts": []}
    verdicts = {each["metric"]: each for each in found["verdicts"]}
    return {
        "exit_code": done.returncode,
        "outcome": found["outcome"],
        "sessions": found.get("sessions"),
        "verdicts": {name: each["outcome"] for name, each in verdicts.items()},
        "changes": {
            name: each["change"]["point"] for name, each in verdicts.items() if each["change"]
        },
        "causes": {name: each["cause"]["kind"] for name, each in verdicts.items() if each["cause"]},
        "headline": done.stdout.splitlines()[:1],
    }


@contextlib.contextmanager
def loaded() -> Iterator[None]:
    """Have other processes compute beside what runs."""
    busy = [subprocess.Popen([sys.executable, "-c", LOAD]) for _ in range(2)]
    try:
        yield
    finally:
        for each in busy:
            each.kill()
            each.wait()


def main() -> None:
    """Run all kinds of checks, and save how they ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", type=int, default=20)
    parser.add_argument("--changed", type=int, default=10)
    asked = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = collections.defaultdict(list)

    def note(name: str, told: dict[str, Any]) -> None:
        found[name].append(told)
        print(name, told["outcome"], told["sessions"], told["changes"], told["causes"], flush=True)

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        git(folder, "init", "--quiet")
        write_model(folder)
        run(folder, "baseline", "record", "model.py")
        for _ in range(asked.checks):
            note("same code, baseline", run(folder, "check", "model.py"))
        with loaded():
            for _ in range(asked.changed // 2):
                note("same code, loaded since", run(folder, "check", "model.py"))
        write_model(folder, layers=LAYERS + 1)
        for _ in range(asked.changed):
            note("a layer more, in turns", run(folder, "check", "model.py", "--against", "HEAD~1"))
        git(folder, "commit", "--quiet", "--allow-empty", "-m", "the same again")
        for _ in range(asked.changed // 2):
            note("same code, in turns", run(folder, "check", "model.py", "--against", "HEAD~1"))
        with loaded():
            for _ in range(asked.changed // 2):
                told = run(folder, "check", "model.py", "--against", "HEAD~1")
                note("same code, in turns, loaded", told)
        peak_bytes = read_peak_bytes(folder)
        write_model(folder, layers=LAYERS + 1, held=int(MORE_MEMORY * peak_bytes / 4))
        for _ in range(asked.changed):
            note("memory 3 % more", run(folder, "check", "model.py", "--against", "HEAD~1"))
    counts = {
        name: dict(collections.Counter(each["outcome"] for each in told))
        for name, told in found.items()
    }
    print(json.dumps(counts, indent=2))
    print(write_results("gate_real", {"counts": counts, "checks": found}))


def read_peak_bytes(folder: Path) -> int:
    """Return the peak of the last check's new side at the pinned batch."""
    document = json.loads((folder / "out.json").read_text())
    return int(document["new"][0]["peaks"][0]["peak_bytes"])


if __name__ == "__main__":
    main()
