"""The real command in a process of its own, and a look at what it leaves behind."""

import os
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]

#: Inherited by all that the command starts, wherever it moves itself; found in /proc afterwards.
MARK = "BSADVISOR_TESTMARK"
#: A process that was killed may take a moment to go, on a busy machine a long one.
_GRACE_S = 15.0
#: Far beyond any budget used here: only a command that hangs meets it.
_TIMEOUT_S = 150.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How the command ended.

    Attributes:
        exit_code: None where it did not end.
        survivors: Command lines of processes that outlived it.
    """

    exit_code: int | None
    stdout: str
    stderr: str
    survivors: tuple[str, ...]


def run_probe(target: str, *options: str, directory: Path) -> Outcome:
    """Run `bsadvisor probe TARGET` on the CPU as `run_command` does."""
    return run_command("probe", target, "--device", "cpu", "--quiet", *options, directory=directory)


def run_command(*arguments: str, directory: Path) -> Outcome:
    """Run `bsadvisor` in a process of its own and kill whatever is left of it.

    Args:
        arguments: As the user types them in the project's root.
        directory: Empty; what the command prints goes to files in it, since a process that outlives
            the command would keep pipes open.
    """
    mark = uuid.uuid4().hex
    printed, warned = directory / "stdout", directory / "stderr"
    with printed.open("wb") as stdout, warned.open("wb") as stderr:
        command = subprocess.Popen(
            [sys.executable, "-m", "advisor.cli", *arguments],
            cwd=ROOT,
            env=_environment(mark),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
        try:
            exit_code = command.wait(_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            exit_code = None
        survivors = end_survivors(mark)
        command.wait()
    return Outcome(
        exit_code=exit_code,
        stdout=printed.read_text(errors="replace"),
        stderr=warned.read_text(errors="replace"),
        survivors=survivors,
    )


def _environment(mark: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("BSADVISOR_")}
    return {**own, MARK: mark, "BSADVISOR_FULL": "1", "NO_COLOR": "1", "COLUMNS": "100"}


def heed_interrupts() -> None:
    """Undo what a shell does to background jobs, in a child: they ignore SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def end_survivors(mark: str) -> tuple[str, ...]:
    deadline = time.monotonic() + _GRACE_S
    while (marked := _marked_processes(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for process, _ in marked:
        process.kill()
    return tuple(line for _, line in marked)


def _marked_processes(mark: str) -> list[tuple[psutil.Process, str]]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark:
                found.append((process, " ".join(process.cmdline())))
        except psutil.Error:  # gone, a zombie, or another user's
            continue
    return found
