"""What the user's script writes while it is measured: its output, and which files.

Both go to files beside that of a crash, which outlive the worker: a script is started many times,
and nobody wants to read what it prints each time. The files of several ranks are the same.
"""

import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

from advisor.engine.witness import FILES, OUTPUT

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
#: What Python, torch and others keep for the next time: no result of the script's.
_CACHES = ("__pycache__", ".cache", "torchinductor_", "matplotlib")
#: No files of a disk.
_SYSTEM = ("/dev/", "/proc/", "/sys/")


def keep_output(folder: Path) -> None:
    """Have stdout and stderr of this process go to a file."""
    output = os.open(folder / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)


def note_files(folder: Path) -> None:
    """Note each file that is opened for writing from here on, in this process and its children."""
    notes = os.open(folder / FILES, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    seen, own = set[str](), str(folder)

    def note(path: Any) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return
        text = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - a link is named as it was
        if text not in seen and not _is_ignored(text, own):
            seen.add(text)
            os.write(notes, text.encode(errors="surrogateescape") + b"\0")

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        try:
            if event == "open" and _is_writing(*arguments[1:3]):
                note(arguments[0])
            elif event == "os.rename":
                note(arguments[1])
        except Exception:  # noqa: BLE001, S110 - never the script's to see
            pass

    sys.addaudithook(audit)
    _watch_saving(note)


def _watch_saving(note: Any) -> None:
    """Note what torch writes by its own library."""
    import torch  # noqa: PLC0415 - there by now

    original = torch.save

    def save(obj: Any, f: Any, *args: Any, **kwargs: Any) -> Any:
        note(f)
        return original(obj, f, *args, **kwargs)

    torch.save = torch.serialization.save = save


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
