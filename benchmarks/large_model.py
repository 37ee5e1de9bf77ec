"""What a model of a billion parameters takes of the host, while it is predicted and probed.

On a pretended card of 80 GB (`tests/stand_in/cuda`), whose memory costs the host nothing, so that
all that is seen is the host's own: the memory of all processes of a command, several times a
second. `rss` counts what processes share in each of them, `pss` once.

Run: python benchmarks/large_model.py [--budget SECONDS]. It writes `results/large_model.json`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
from results import write_results
from throughput_against_loop import is_pretended

HERE = Path(__file__).resolve().parent
MODEL = HERE / "models" / "gpt_1b.py"
GIB = 1 << 30
CARD = {"STAND_IN_NAME": "NVIDIA H100 80GB HBM3", "STAND_IN_MEMORY_BYTES": str(80 * GIB)}
PAUSE_S = 0.2


def measure(arguments: list[str]) -> dict[str, Any]:
    """Run a command and return the most memory that all its processes held at once."""
    began_s, most = time.monotonic(), {"rss": 0, "pss": 0}
    environment = {**os.environ, **CARD, "PYTHONPATH": str(HERE.parent)}
    with subprocess.Popen(
        [sys.executable, "-m", "advisor.cli", *arguments], env=environment
    ) as command:
        parent = psutil.Process(command.pid)
        while command.poll() is None:
            held = sum_memory(parent)
            most = {name: max(most[name], held[name]) for name in most}
            time.sleep(PAUSE_S)
    return {
        "exit_code": command.returncode,
        "took_s": time.monotonic() - began_s,
        **{f"most_{name}_gib": size / GIB for name, size in most.items()},
    }


def sum_memory(parent: psutil.Process) -> dict[str, int]:
    """Return what a process and all that it started hold."""
    total = {"rss": 0, "pss": 0}
    for process in [parent, *parent.children(recursive=True)]:
        try:
            held = process.memory_full_info()
        except psutil.Error:  # it has ended
            continue
        total = {"rss": total["rss"] + held.rss, "pss": total["pss"] + held.pss}
    return total


def main() -> None:
    """Run both commands, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--budget", type=int, default=900, help="seconds of the probe")
    arguments = parser.parse_args()
    if not is_pretended():
        parser.error("this is for pretended cards: on a real one, watch the host beside gpu.py")
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        predicted, probed = Path(folder, "predict.json"), Path(folder, "probe.json")
        rows["predict"] = measure(
            ["predict", str(MODEL), "--gpu", "H100 SXM", "--json", str(predicted)]
        )
        budget = ["--budget", str(arguments.budget)]
        rows["probe"] = measure(
            ["probe", str(MODEL), "--device", "cuda", *budget, "--json", str(probed)]
        )
        record = json.loads(probed.read_text())
    batches = record.get("noise_batches", [])
    rows["probe"] |= {
        "stopped_because": record.get("stopped_because"),
        "largest_micro_batch": (record.get("memory") or {}).get("max_micro_batch_size"),
        "noise_iterates": len(batches),
        "is_sketched": all(each.get("is_sketched") for each in batches),
    }
    print(json.dumps(rows, indent=2))
    write_results("large_model", rows)


if __name__ == "__main__":
    main()
