"""How long a full probe of each example takes, and what it answers.

Run: python benchmarks/full_probe.py
"""

import json
import subprocess
import sys
import time
from pathlib import Path

from results import write_results
from rich.console import Console
from rich.table import Table

EXAMPLES = Path(__file__).parent.parent / "examples"
NAMES = ("digits.py", "char_lm.py", "convnet.py", "gan.py")


def probe(name: str) -> dict[str, object]:
    """Return wall clock and answer of `bsadvisor probe` with its defaults."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "advisor.cli", "probe", str(EXAMPLES / name), "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    elapsed_s = time.perf_counter() - start
    if done.returncode:
        return {"example": name, "elapsed_s": elapsed_s, "exit_code": done.returncode}
    derived = json.loads(done.stdout)["derived"]
    memory, advice = derived["memory"], derived["recommendation"]
    return {
        "example": name,
        "elapsed_s": elapsed_s,
        "exit_code": 0,
        "memory_probes": memory["probes"],
        "memory_ooms": memory["ooms"],
        "max_micro_batch_size": memory["max_micro_batch_size"],
        "limited_by": memory["limited_by"],
        "noise_scale": (derived["noise"].get("noise_scale") or {}).get("point"),
        "global_batch_size": advice["global_batch_size"],
        "learning_rate": advice["learning_rate"]["value"],
        "limiting_factor": advice["limiting_factor"],
    }


def main() -> None:
    """Probe every example, print the table, write the results."""
    rows = [probe(name) for name in NAMES]
    table = Table("example", "time (s)", "probes / OOMs", "largest", "noise", "batch", "rate")
    for row in rows:
        table.add_row(
            str(row["example"]),
            f"{row['elapsed_s']:.0f}",
            f"{row.get('memory_probes')} / {row.get('memory_ooms')}",
            f"{row.get('max_micro_batch_size')} ({row.get('limited_by')})",
            str(row.get("noise_scale")),
            str(row.get("global_batch_size")),
            str(row.get("learning_rate")),
        )
    Console().print(table)
    write_results("full_probe", rows)


if __name__ == "__main__":
    main()
