"""Baselines on disk: `.bsadvisor/baselines/<device>-<fingerprint>.json`, one a setting."""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from advisor.engine.document import decode_untrusted, read_as, read_untrusted
from advisor.engine.files import write_file
from advisor.engine.record import Record
from advisor.errors import UsageError
from advisor.gate.data import Difference, Occasion, Setting, Side, Spread
from advisor.gate.setting import compare_settings, name_file
from advisor.gate.verdict import BASELINE_SESSIONS

FOLDER = Path(".bsadvisor", "baselines")
#: In it: what `noise-floor` found of the same settings.
_SPREADS = "noise-floors"
#: What marks the folder of a project: the baselines lie there, wherever in it the command runs.
_MARKS = (".bsadvisor", ".git", "pyproject.toml")


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which baseline is meant, how one is made, and what is compared."""

    new: Side | None = None
    old: Side | None = None
    #: None: the file's own.
    micro_batch_size: int | None = None
    #: A file, or a folder of them; None: the project's own.
    path: Path | None = None
    #: Of an occasion.
    sessions: int = BASELINE_SESSIONS
    #: Time over which they are spread.
    over_s: float = 0.0
    #: To the occasions that are there, where the stack is the same.
    adds: bool = False
    #: Record one where there is none.
    records_missing: bool = False

    @property
    def file(self) -> Path | None:
        """The file that is named, if one is."""
        path = self.path
        if path is None or path.is_dir():
            return None
        return path if path.suffix == ".json" or path.exists() else None

    @property
    def folder(self) -> Path:
        """The folder of the baselines: the one named, else that of the nearest project."""
        if self.path is not None:
            return self.path if self.file is None else self.path.parent
        here = Path.cwd()
        for folder in (here, *here.parents):
            if any((folder / mark).exists() for mark in _MARKS):
                return folder / FOLDER
        return here / FOLDER


class BaselineRecord(Record, frozen=True, kw_only=True):
    """A baseline that a check can be held against."""

    occasions: Annotated[tuple[Occasion, ...], msgspec.Meta(min_length=1)]

    def __post_init__(self) -> None:
        """Refuse an occasion at which nothing was timed."""
        if not all(occasion.sessions for occasion in self.occasions):
            raise ValueError("an occasion has no session")


class _Derived(msgspec.Struct, frozen=True, kw_only=True):
    spread_fraction: Spread | None = None


class _SpreadFile(msgspec.Struct, frozen=True, kw_only=True):
    kind: Literal["self-comparison"]
    derived: _Derived


def find_spread(asked: Asked, setting: Setting) -> float | None:
    """Return the spread of sessions that `noise-floor` found of a setting, None without."""
    path = choose_spread_path(asked, setting)
    if not path.exists():
        return None
    what = f"{path} is none that noise-floor wrote"
    return decode_untrusted(read_untrusted(path), _SpreadFile, what).derived.spread_fraction


def choose_spread_path(asked: Asked, setting: Setting) -> Path:
    """Return where the spread of a setting is kept."""
    return asked.folder / _SPREADS / name_file(setting)


def choose_path(asked: Asked, setting: Setting) -> Path:
    """Return where a baseline of the setting is kept."""
    return asked.file or asked.folder / name_file(setting)


def find(asked: Asked, setting: Setting) -> tuple[Occasion, ...] | None:
    """Return the occasions of the baseline for a setting, None where there is none."""
    path, is_needed = choose_path(asked, setting), asked.file and not asked.records_missing
    return read(path) if is_needed or path.exists() else None


def find_nearest(asked: Asked, setting: Setting) -> Sequence[Difference]:
    """Return in what the nearest baseline that is there is another one; none where none is."""
    found = list[list[Difference]]()
    for path in sorted(asked.folder.glob("*.json")):
        with contextlib.suppress(UsageError):  # it is none
            differences = compare_settings(read(path)[0].setting, setting)
            found.append([each for each in differences if each.tier == "identity"])
    return min(found, key=len, default=())


def read(path: Path) -> tuple[Occasion, ...]:
    """Return the occasions of a baseline's file; UsageError where it is missing, or is none."""
    found = read_as(path, "baseline", BaselineRecord, noun="baseline", command="baseline record")
    return found.occasions


def refuse_unwritable(asked: Asked) -> None:
    """Raise UsageError where no baseline can be kept there, before anything is measured for it."""
    folder = asked.folder
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not there.is_dir():
        raise _refuse(folder, f"{there} is no folder")
    if not os.access(there, os.W_OK):
        raise _refuse(folder, f"{there} must not be written to")


def save(path: Path, document: bytes) -> None:
    """Have the file hold the document, its folders made; UsageError where it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, document)
    except OSError as error:
        raise _refuse(path, error.strerror or str(error)) from error


def _refuse(path: Path, why: str) -> UsageError:
    return UsageError(
        f"cannot write {path}: {why}", next_step="Name another place with --baseline."
    )
