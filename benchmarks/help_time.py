"""How long `bsadvisor --help` takes beside the import of typer and rich alone.

Run: python benchmarks/help_time.py. The two commands take turns in fresh interpreters, so that both
see the same load; the budget is a ratio of 2.
"""

import statistics
import subprocess
import sys
import time

from results import write_results

REPETITIONS = 60
COMMANDS = {
    "import": [sys.executable, "-c", "import typer, rich"],
    "help": [sys.executable, "-m", "advisor.cli", "--help"],
}


def time_command(command: list[str]) -> float:
    """Return the seconds that `command` takes from start to exit."""
    began_s = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began_s


def main() -> None:
    """Time both commands in turns, print their medians and save every time."""
    for command in COMMANDS.values():
        time_command(command)  # fills the caches of files and bytecode
    times_s: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(REPETITIONS):
        for name, command in COMMANDS.items():
            times_s[name].append(time_command(command))
    ratios = [a / b for a, b in zip(times_s["help"], times_s["import"], strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    for name, times in times_s.items():
        print(f"{name:8} median {1e3 * statistics.median(times):6.1f} ms")
    print(f"ratio    median {median:.2f}, middle half {low:.2f} to {high:.2f} (budget 2)")
    path = write_results("help_time", {"times_s": times_s, "ratio": median, "budget_ratio": 2.0})
    print(path)


if __name__ == "__main__":
    main()
