"""The runs that are kept without being asked for, last touched first, so that none is lost."""

import contextlib
import re
from pathlib import Path

import platformdirs

from advisor.engine.files import write_file
from advisor.errors import UsageError

#: How many are kept.
MOST_KEPT = 50
#: The one that was written last, wherever a file of a run is taken.
LAST = "last"


def find_folder() -> Path:
    """Return the folder in the user's cache."""
    return platformdirs.user_cache_path("bsadvisor") / "runs"


def choose_path(created_at: str, kind: str, target: str) -> Path:
    """Return where a record is kept: one file, however often it is added to."""
    moment = re.sub(r"[^0-9T]", "", created_at.partition("+")[0])
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(target).stem)[:40] or "model"
    return find_folder() / f"{moment}-{kind}-{name}.json"


def keep(path: Path, document: bytes) -> OSError | None:
    """Have the file hold the document, and drop the oldest; return why nothing is kept."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, document)
    except OSError as error:
        return error
    with contextlib.suppress(OSError):
        for old in list_kept()[MOST_KEPT:]:
            old.unlink(missing_ok=True)
    return None


def list_kept() -> list[Path]:
    """Return the files, last written first: verify adds to a run that may be an old one."""
    return sorted(find_folder().glob("*.json"), key=_read_moment, reverse=True)


def _read_moment(path: Path) -> tuple[float, str]:
    """Return when the file was written; one that is gone by now sorts last."""
    try:
        return path.stat().st_mtime, path.name
    except OSError:
        return 0.0, path.name


def resolve(name: str | Path, kind: str | None = None) -> Path:
    """Return the file that is meant: `last` is the first of those kept, a number n the n-th.

    A file of that name comes first; only records of the kind count, None: any.

    Raises:
        UsageError: No such run was kept.
    """
    path = Path(name)
    is_number = str(name).isascii() and str(name).isdigit()
    if path.exists() or not (str(name) == LAST or is_number):
        return path
    kept = [each for each in list_kept() if kind is None or f"-{kind}-" in each.name]
    at = int(str(name)) - 1 if is_number else 0
    if not 0 <= at < len(kept):
        raise UsageError(
            f"no run {name} is kept: there {'are' if len(kept) != 1 else 'is'} {len(kept)}",
            next_step="bsadvisor report --list prints them; probe makes one.",
        )
    return kept[at]
