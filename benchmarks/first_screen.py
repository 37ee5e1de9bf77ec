"""The first screen that the README shows: one run of the script among the examples.

`results/first_screen.json` has the command and every line that it printed; the README shows some.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from results import write_results

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (
    *("bsadvisor", "probe", "examples/train_digits.py", "--budget", "8m"),
    *("--", "--batch-size", "{batch_size}", "--lr", "{learning_rate}"),
)
#: A terminal of 80 columns; one thread, since others may have the other processors.
SURROUNDINGS = {"COLUMNS": "80", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}


def main() -> None:
    """Run the command where its kept runs are no one's, and store what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-m", "advisor.cli", *COMMAND[1:]],
            cwd=ROOT,
            env={**os.environ, **SURROUNDINGS, "XDG_CACHE_HOME": folder},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    screen = [line.rstrip() for line in done.stdout.splitlines()]
    path = write_results(
        "first_screen",
        {"command": " ".join(COMMAND), "surroundings": SURROUNDINGS, "screen": screen},
    )
    print("\n".join(screen), path, sep="\n")


if __name__ == "__main__":
    main()
