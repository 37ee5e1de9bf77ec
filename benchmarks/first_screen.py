"""What the README shows: one run of the script among the examples, its first screen and its page.

`results/first_screen.json` has the command and every line that it printed; the README shows some.
`docs/images/page.png` is the top of the page of the same run; it takes playwright and a Chromium.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from results import write_results

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (
    *("bsadvisor", "probe", "examples/train_digits.py", "--budget", "8m"),
    *("--", "--batch-size", "{batch_size}", "--lr", "{learning_rate}"),
)
PAGE = ("bsadvisor", "report", "--html", "page.html")
PICTURE = ROOT / "docs" / "images" / "page.png"
SIZE = {"width": 1000, "height": 1150}
#: A terminal of 80 columns; one thread, since others may have the other processors.
SURROUNDINGS = {"COLUMNS": "80", "NO_COLOR": "1", "OMP_NUM_THREADS": "1"}


def main() -> None:
    """Run the command where nothing that it keeps or writes is in the way, and store its words."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "examples", Path(folder, "examples"))
        screen = [line.rstrip() for line in run(COMMAND, folder).splitlines()]
        run(PAGE, folder)
        take_picture(Path(folder, "page.html"))
    path = write_results(
        "first_screen",
        {"command": " ".join(COMMAND), "surroundings": SURROUNDINGS, "screen": screen},
    )
    print("\n".join(screen), path, PICTURE, sep="\n")


def run(command: tuple[str, ...], folder: str) -> str:
    """Return what a command prints, in a folder that has its cache as well."""
    places = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": folder}
    done = subprocess.run(
        [sys.executable, "-m", "advisor.cli", *command[1:]],
        cwd=folder,
        env={**os.environ, **SURROUNDINGS, **places},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout


def take_picture(page: Path) -> None:
    """Store the top of a page as a browser shows it."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        tab = browser.new_page(viewport=SIZE)
        tab.goto(page.as_uri())
        tab.wait_for_selector(".chart .points path.point")
        PICTURE.parent.mkdir(exist_ok=True)
        tab.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
