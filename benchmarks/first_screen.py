"""The first screen that the README shows: one run of the script among the examples.

`results/first_screen.json` has the command and every line that it printed; the README shows some.
"""

import os
import shutil
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
    """Run the command where nothing that it keeps or writes is in the way, and store its words."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "examples", Path(folder, "examples"))
        places = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": folder}
        done = subprocess.run(
            [sys.executable, "-m", "advisor.cli", *COMMAND[1:]],
            cwd=folder,
            env={**os.environ, **SURROUNDINGS, **places},
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
