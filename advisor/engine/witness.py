"""What the user's script wrote while it was measured, as its worker kept it."""

from pathlib import Path

#: Names in the worker's folder.
OUTPUT, FILES = "output.txt", "files.txt"
#: Of a failed start's output, the end that is shown.
_LINES, _BYTES = 20, 1 << 14


def read_last_lines(folder: Path) -> str | None:
    """Return the end of what was printed; None where nothing was."""
    try:
        with (folder / OUTPUT).open("rb") as output:
            output.seek(max(0, output.seek(0, 2) - _BYTES))
            lines = output.read().decode(errors="replace").replace("\r", "\n").splitlines()
    except OSError:
        return None
    told = [line for line in lines if line.strip()][-_LINES:]
    return "\n".join(told) or None


def list_files(folder: Path) -> tuple[str, ...]:
    """Return the files that were written, those that are there still, by name."""
    try:
        names = (folder / FILES).read_bytes().decode(errors="surrogateescape").split("\0")
    except OSError:
        return ()
    found = {name for name in names if name and Path(name).is_file()}
    return tuple(sorted(name.encode(errors="replace").decode() for name in found))


def forget_output(folder: Path) -> None:
    """Begin another start's output."""
    (folder / OUTPUT).unlink(missing_ok=True)
