"""Two revisions of the user's repository, each in a git worktree that never stays behind.

A caretaker of its own session removes the worktrees when this process is done with them, whatever
ends it: its standard input closes then.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from msgspec.structs import replace

from advisor.errors import AdvisorError, UsageError
from advisor.gate.data import Revision, Side
from advisor.training.data import Checkout, WorkloadSpec

#: Files by which projects name what they depend on.
_DEPENDENCIES = (
    *("pyproject.toml", "setup.py", "setup.cfg", "uv.lock", "poetry.lock", "pdm.lock"),
    *("Pipfile.lock", "environment.yml", "environment.yaml", "conda-lock.yml"),
)
#: Of what git ignores, what no training reads.
_UNUSED = ("__pycache__", ".bsadvisor", ".mypy_cache", ".pytest_cache", ".ruff_cache")

#: `git stash create` makes a commit, which needs one, and keeps none.
_IDENTITY = ("-c", "user.name=bsadvisor", "-c", "user.email=bsadvisor@localhost")

_CARETAKER = """
import shutil, signal, subprocess, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
sys.stdin.buffer.read()
own, place, *trees = sys.argv[1:]
for tree in trees:
    remove = ["git", "-C", own, "worktree", "remove", "--force", "--force", tree]
    subprocess.run(remove, check=False, capture_output=True)
shutil.rmtree(place, ignore_errors=True)
subprocess.run(["git", "-C", own, "worktree", "prune"], check=False, capture_output=True)
"""


class Sides(NamedTuple):
    """What is compared; no old side where a baseline stands for it."""

    old: Side | None
    new: Side
    #: What the reader should know of them, a sentence each.
    remarks: tuple[str, ...]


@contextlib.contextmanager
def open_sides(reference: str | None, workload: WorkloadSpec) -> Iterator[Sides]:
    """Check out a revision, if any, and what is worked on now, each in a folder of its own.

    What git ignores is linked into both, as data and environments are; the working directory stays
    as it is. The target is relative to the working directory; a module counts as it is.

    Raises:
        UsageError: There is no repository, no such commit, or no such file in it.
    """
    if reference is None:
        yield Sides(None, see_side(workload), ())
        return
    own = Path(_git(Path.cwd(), "rev-parse", "--show-toplevel", why="this is no git repository"))
    folder, target = Path.cwd().relative_to(own), workload.target
    old_commit = _git(
        own,
        *("rev-parse", "--verify", "--quiet", "--end-of-options", f"{reference}^{{commit}}"),
        why=f"git knows no commit {reference}",
    )
    head = _git(own, "rev-parse", "--verify", "HEAD", why="there is no commit yet")
    changed = ""
    if _git(own, "status", "--porcelain", "--untracked-files=no", why="no status"):
        changed = _git(own, "stash", "create", why="the changes cannot be read")  # touches nothing
    file = folder / target.rpartition(":")[0] if ".py:" in target else folder / target
    if target.endswith(".py") or ".py:" in target:
        place = f"{old_commit}:{PurePosixPath(os.path.normpath(file))}"
        _git(own, "cat-file", "-e", place, why=f"{file} is not in {reference}")
    revisions = {
        "old": (old_commit, Revision(commit=old_commit, name=reference)),
        "new": (changed or head, Revision(commit=head, name="HEAD", is_changed=bool(changed))),
    }
    with (
        tempfile.TemporaryDirectory(prefix="bsadvisor-", ignore_cleanup_errors=True) as place,
        _taken_care_of(own, Path(place), [Path(place, name) for name in revisions]),
    ):
        sides = []
        for name, (commit, revision) in revisions.items():
            path = Path(place, name)
            _git(own, "worktree", "add", "--detach", str(path), commit, why="no worktree")
            _link_ignored(own, path)
            _link_submodules(own, path)
            checkout = Checkout(root=str(path), instead_of=str(own), folder=str(folder))
            sides.append(Side(workload=replace(workload, checkout=checkout), revision=revision))
        old, new = sides
        try:
            yield Sides(old, new, tuple(_remark(own, old_commit, changed or head)))
        except AdvisorError as error:  # the worktrees will be gone
            for name, there in (("old", f"{reference}:"), ("new", f"{own}/")):
                error.message = error.message.replace(f"{place}/{name}/", there)
                error.traceback = (error.traceback or "").replace(f"{place}/{name}/", there) or None
            raise


def see_side(workload: WorkloadSpec) -> Side:
    """Return what is worked on in the working directory, at its commit where it has one."""
    try:
        commit = _git(Path.cwd(), "rev-parse", "--verify", "HEAD", why="")
        changed = _git(Path.cwd(), "status", "--porcelain", "--untracked-files=no", why="")
    except UsageError:
        return Side(workload=workload)
    return Side(workload=workload, revision=Revision(commit=commit, is_changed=bool(changed)))


@contextlib.contextmanager
def _taken_care_of(own: Path, place: Path, trees: Sequence[Path]) -> Iterator[None]:
    command = [sys.executable, "-I", "-c", _CARETAKER, str(own), str(place), *map(str, trees)]
    caretaker = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        assert caretaker.stdin is not None
        caretaker.stdin.close()
        caretaker.wait()


def _link_ignored(own: Path, tree: Path) -> None:
    """Link what git ignores, such as data, from the repository where the tree lacks it."""
    listed = _git(
        own,
        *("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"),
        why="the ignored files cannot be listed",
    )
    for name in filter(None, listed.split("\0")):
        path = tree / name.rstrip("/")
        if path.name in _UNUSED or path.name.endswith(".egg-info") or path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(own / name.rstrip("/"))


def _link_submodules(own: Path, tree: Path) -> None:
    """Link what is checked out of submodules, of which git leaves a worktree an empty folder."""
    for name in _list_submodules(own):
        path = tree / name
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
            path.symlink_to(own / name)


def _list_submodules(own: Path) -> list[str]:
    staged = _git(own, "ls-files", "-z", "--stage", why="the files cannot be listed").split("\0")
    return [each.partition("\t")[2] for each in staged if each.startswith("160000 ")]


def _remark(own: Path, old: str, new: str) -> Iterator[str]:
    names = _git(own, "diff", "--name-only", old, new, why="the revisions cannot be compared")
    dependencies = [
        name
        for name in names.splitlines()
        if (base := PurePosixPath(name).name) in _DEPENDENCIES or base.startswith("requirements")
    ]
    if dependencies:
        yield (
            f"{', '.join(dependencies)} differs between the revisions; both ran with what is "
            "installed here"
        )
    for name in {*_list_submodules(own)}.intersection(names.splitlines()):
        yield f"submodule {name} differs between the revisions; both have what is checked out here"
    untracked = _git(own, "ls-files", "--others", "--exclude-standard", why="").splitlines()
    python = [name for name in untracked if name.endswith(".py")]
    if python:
        more = f" and {len(python) - 1} more" if len(python) > 1 else ""
        yield f"{python[0]}{more} is not known to git, and is in neither revision"


def _git(folder: Path, *arguments: str, why: str) -> str:
    """Return what git prints; UsageError where it fails, for the reason given."""
    command = ["git", "-C", str(folder), *_IDENTITY, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise UsageError("git is not installed", next_step="Install it.") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise UsageError(f"{why}: {said[-1]}" if said else why)
    return os.fsdecode(done.stdout).rstrip("\n")  # a file may have any name
