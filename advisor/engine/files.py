"""Results in files of the user's: replaced in one step where that harms nothing, else written."""

import errno
import os
import stat
from pathlib import Path

#: The folder, not the file, is what refuses: a mount point, a file in a folder of another user's.
_FOLDER_REFUSES = {
    *(errno.EACCES, errno.EBUSY, errno.EEXIST, errno.ENAMETOOLONG, errno.EPERM, errno.EROFS)
}


def write_file(path: Path, content: bytes) -> None:
    """Have `path` hold the content; no reader sees half of it where the folder allows that.

    A link, a pipe or a device stays what it is, and a file keeps owner, permissions and its other
    names.

    Raises:
        OSError: It cannot be written; a file that was there is as it was, unless only its own
            bytes could be written.
    """
    found, target = _look_at(path), Path(os.path.realpath(path))
    there = _look_at(target)
    if found is None or (
        there is not None
        and os.path.samestat(found, there)  # and not open under a lost name
        and stat.S_ISREG(found.st_mode)
        and found.st_nlink == 1
    ):
        try:
            _replace(target, content, found)
        except OSError as error:
            if error.errno not in _FOLDER_REFUSES:
                raise
        else:
            return
    path.write_bytes(content)


def is_stream(path: Path) -> bool:
    """Return whether each write adds to what was written before: a pipe, a terminal, a device."""
    found = _look_at(path)
    return found is not None and not stat.S_ISREG(found.st_mode)


def is_same_file(path: Path, descriptor: int) -> bool:
    """Return whether the path leads to what an open file is, as /dev/stdout does."""
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except OSError:
        return False


def _look_at(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _replace(target: Path, content: bytes, found: os.stat_result | None) -> None:
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    with temporary.open("xb") as stream:
        try:
            if found is not None:
                os.chown(temporary, found.st_uid, found.st_gid)
                temporary.chmod(stat.S_IMODE(found.st_mode))
            stream.write(content)
            stream.close()
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
