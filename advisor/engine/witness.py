"""What the user's script writes while it is measured: its output, and which files.

Its worker keeps both in files beside that of a crash, which outlive it: a script is started many
times, and nobody wants to read what it prints each time. The files of several ranks are the same.
"""

import contextlib
import os
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Names in the worker's folder.
_OUTPUT, _FILES = "output.txt", "files.txt"
#: Of a failed start's output, the end that is shown.
_LINES, _BYTES = 20, 1 << 14
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
#: What Python, torch and others keep for the next time: no result of the script's.
_CACHES = ("__pycache__", ".cache", "torchinductor_", "matplotlib")
#: No files of a disk.
_SYSTEM = ("/dev/", "/proc/", "/sys/")


def read_last_lines(folder: Path) -> str | None:
    """Return the end of what was printed; None where nothing was."""
    try:
        with (folder / _OUTPUT).open("rb") as output:
            output.seek(max(0, output.seek(0, 2) - _BYTES))
            lines = output.read().decode(errors="replace").replace("\r", "\n").splitlines()
    except OSError:
        return None
    told = [line for line in lines if line.strip()][-_LINES:]
    return "\n".join(told) or None


def list_files(folder: Path) -> tuple[str, ...]:
    """Return the files that were written, those that are there still, by name."""
    try:
        names = (folder / _FILES).read_bytes().decode(errors="surrogateescape").split("\0")
    except OSError:
        return ()
    found = {name for name in names if name and Path(name).is_file()}
    return tuple(sorted(name.encode(errors="replace").decode() for name in found))


def forget_output(folder: Path) -> None:
    """Begin another start's output."""
    (folder / _OUTPUT).unlink(missing_ok=True)


def keep_output(folder: Path) -> None:
    """Have stdout and stderr of this process go to a file."""
    with (folder / _OUTPUT).open("ab") as output:
        for number in (1, 2):
            os.dup2(output.fileno(), number)


def note_files(folder: Path) -> Callable[[Any], None]:
    """Note each file that is opened for writing from here on, in this process and its children.

    Returns:
        What notes a file that Python does not open.
    """
    notes = os.open(folder / _FILES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    seen, own = set[str](), str(folder)

    def note(path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        text = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - a link is named as it was
        if text not in seen and not _is_ignored(text, own):
            seen.add(text)
            os.write(notes, text.encode(errors="surrogateescape") + b"\0")

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        with contextlib.suppress(Exception):  # never the script's to see
            if event == "open" and _is_writing(*arguments[1:3]):
                note(arguments[0])
            elif event == "os.rename":
                note(arguments[1])

    sys.addaudithook(audit)
    return note


def _is_writing(mode: object, flags: object) -> bool:
    if isinstance(mode, str):
        return bool(set(mode) & set("wax+"))
    return isinstance(flags, int) and bool(flags & _WRITING)


def _is_ignored(path: str, own: str) -> bool:
    parts = Path(path).parts
    return (
        path.startswith((*_SYSTEM, own, sysconfig.get_path("stdlib")))
        or any(part.startswith(_CACHES) for part in parts)
        or any(part.startswith("bsadvisor-") for part in parts)
    )
