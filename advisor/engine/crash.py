"""Where a worker's Python code stood when it crashed, hung or was killed."""

import os
import re
import signal
import sysconfig
from pathlib import Path

_FRAME = re.compile(r'File "(?P<path>.+)", line (?P<line>\d+) in (?P<name>.+)')
#: Of this program's own code.
PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep

#: With which a worker ends that cannot say a word: the user's code closed its connection.
MUTE_STATUS = 71


def find_location(crash_path: Path) -> str | None:
    """Return `file:line in function` of the innermost line of the user's own code, if noted."""
    for match in _FRAME.finditer(crash_path.read_text(errors="replace")):
        if not is_library(match["path"]):
            return f"{match['path']}:{match['line']} in {match['name']}"
    return None


def is_library(path: str) -> bool:
    """Return whether code at the path is not the user's: installed, Python's, or this program's."""
    return "site-packages" in path or path.startswith((PACKAGE, sysconfig.get_path("stdlib"), "<"))


def describe_exit(code: int | None) -> str:
    """Return how a process ended, in words; None stands for an end that nobody saw."""
    if code is None:
        return "ended without a word, and how is not known"
    if code == MUTE_STATUS:
        return "closes files that it did not open, the connection to this program among them"
    if code >= 0:
        return f"ended the process with exit status {code} (os._exit?)"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return {
        "SIGSEGV": "crashed with a segmentation fault (SIGSEGV)",
        "SIGKILL": "was killed (SIGKILL), as the kernel does when memory runs out",
    }.get(name, f"was ended by {name}")
