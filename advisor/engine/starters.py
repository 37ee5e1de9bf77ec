"""What starts workers: a server that forks them (Linux), or a new interpreter for each."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence

import psutil

from advisor.engine.connection import Connection, kill_tree, python_command
from advisor.engine.ends import LostServerError, NoTimeLeftError
from advisor.units import format_duration

#: Of the time left, for the user's packages: a worker that imports them says where it stands.
_PACKAGES_FRACTION = 0.5
_FORKED_S = 30.0
#: A socket that waits 0 s does not wait, and says so in other words.
_LEAST_S = 0.01
_KILLED_S = 5.0


class Forkserver:
    """Starts each worker as a fork of a server that has imported torch and the user's packages.

    The server is the reaper of all processes below it, so what a worker leaves behind, even in a
    session of its own, is still found as the server's child.

    Raises NoTimeLeftError where torch is not there by the deadline, LostServerError where the
    packages take half of the time left, or end the server.
    """

    def __init__(self, preload: Sequence[str], deadline: float) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            command = python_command("advisor.engine.worker.forkserver")
            self._server = subprocess.Popen(
                [*command, str(theirs.fileno()), *preload],
                stdin=_find_terminal(),
                stdout=2,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # the terminal's Ctrl-C is the parent's to handle
            )
        self._pids = self._control.makefile("rb")
        try:
            self._open(deadline)
        except BaseException:
            self.close()
            raise

    def start(self, order: bytes) -> Connection:
        """Return the connection to a new worker that has been sent the order."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [b"f"], [theirs.fileno()])
                pid = self._hear(_FORKED_S)
            except (OSError, LostServerError) as error:
                ours.close()
                raise _lose() from error
        with contextlib.suppress(BrokenPipeError):
            ours.sendall(order)
        with ours:  # the file keeps it open
            return Connection(pid, ours.makefile("rb"), lambda: None)

    def clean_up(self) -> None:
        """Kill everything below the server."""
        kill_tree(self._server.pid, but_root=True)

    def close(self) -> None:
        """Kill everything below the server, then the server."""
        self.clean_up()
        for end in (self._pids, self._control):
            end.close()
        self._server.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may be stuck in the kernel
            self._server.wait(_KILLED_S)

    def _open(self, deadline: float) -> None:
        """Wait until the server has torch, then until it has the packages."""
        left_s = max(0.0, deadline - time.monotonic())
        try:
            self._hear(left_s)
        except LostServerError as error:
            if not isinstance(error.__cause__, TimeoutError):
                raise
            raise refuse_late("torch", left_s) from error
        self._hear(_PACKAGES_FRACTION * max(0.0, deadline - time.monotonic()))

    def _hear(self, timeout_s: float) -> int:
        """Return the process that the server tells of: itself as it gets ready, or a worker."""
        self._control.settimeout(max(timeout_s, _LEAST_S))
        try:
            return int(self._pids.readline())
        except (OSError, ValueError) as error:  # late, or gone
            raise _lose() from error


class Spawner:
    """Starts each worker as a new interpreter, the order on its stdin."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, order: bytes) -> Connection:
        """Return the connection to a new worker that has been sent the order."""
        process = subprocess.Popen(
            python_command("advisor.engine.worker.entry"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        connection = Connection(process.pid, process.stdout, process.wait)
        # A worker that died at once says how by its exit status.
        with contextlib.suppress(BrokenPipeError), process.stdin as orders:
            orders.write(order)
        return connection

    def clean_up(self) -> None:
        """Kill the worker and whatever it started, as far as the system still knows whose it is."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:  # a reaped one's number may be another process's by now
            kill_tree(process.pid)
        _kill_orphans(process.pid)

    close = clean_up


def _kill_orphans(session: int) -> None:
    """Kill what is left of the session of a worker that has ended."""
    # While any of it lives, the system gives the number to no new process.
    if hasattr(os, "killpg") and not psutil.pid_exists(session):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(session, signal.SIGKILL)


def refuse_late(what: str, timeout_s: float) -> NoTimeLeftError:
    """Return what is said where these were not there in time."""
    return NoTimeLeftError(
        f"{what} took longer to import than {format_duration(timeout_s)}, all the time there was",
        next_step="On a cold disk or a busy machine it takes long: try once more, and raise "
        "--budget where one was given.",
    )


def _lose() -> LostServerError:
    return LostServerError(
        "the process that starts the workers did not answer",
        next_step="Set BSADVISOR_START_METHOD=spawn to do without it.",
    )


def _find_terminal() -> int | None:
    """Return what the user's code reads from: the terminal, as without this program, or nothing."""
    try:
        return None if os.isatty(0) else subprocess.DEVNULL
    except OSError:  # closed
        return subprocess.DEVNULL
