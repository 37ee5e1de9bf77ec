"""The client of the process that forks workers (Linux)."""

import contextlib
import os
import queue
import signal
import socket
import subprocess
import threading
from collections.abc import Sequence

import msgspec

from advisor.engine.connection import Connection, kill_tree, python_command
from advisor.engine.ends import LostServerError
from advisor.errors import InternalError

#: Importing torch and the user's packages takes seconds; this only ends a wait that has no end.
_READY_S = 300.0
_FORKED_S = 30.0
_KILLED_S = 5.0


class Forkserver:
    """Starts each worker as a fork of a server that has imported torch and the user's packages.

    The server is the reaper of all processes below it, so what a worker leaves behind, even in a
    session of its own, is still found as the server's child.
    """

    def __init__(self, preload: Sequence[str]) -> None:
        self._control, theirs = socket.socketpair()
        with theirs:
            self._server = subprocess.Popen(
                [
                    *python_command("advisor.engine.worker.forkserver"),
                    str(theirs.fileno()),
                    *preload,
                ],
                stdin=_find_terminal(),
                stdout=2,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # the terminal's Ctrl-C is the parent's to handle
            )
        self._announced: queue.SimpleQueue[dict[str, int] | None] = queue.SimpleQueue()
        self._connections: dict[int, Connection] = {}
        self._exited: dict[int, int] = {}
        self._lock = threading.Lock()  # a worker may end before start() has registered it
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self._wait_for("ready", _READY_S)
        except BaseException:
            self.close()
            raise

    def start(self, order: bytes) -> Connection:
        """Return the connection to a new worker that has been sent the order."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [b"f"], [theirs.fileno()])
                pid = self._wait_for("started", _FORKED_S)
            except (OSError, InternalError) as error:
                ours.close()
                raise _lose() from error
        with contextlib.suppress(BrokenPipeError):
            ours.sendall(order)
        connection = Connection(pid, ours.makefile("rb"), lambda: _interrupt(pid))
        ours.close()  # the file keeps it open
        with self._lock:
            self._connections[pid] = connection
            if pid in self._exited:
                connection.events.put(self._exited.pop(pid))
        return connection

    def clean_up(self) -> None:
        """Kill everything below the server."""
        kill_tree(self._server.pid, but_root=True)

    def close(self) -> None:
        """Kill everything below the server, then the server."""
        self.clean_up()
        self._control.close()
        self._server.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):  # it may be stuck in the kernel
            self._server.wait(_KILLED_S)

    def _listen(self) -> None:
        with contextlib.suppress(OSError, ValueError), self._control.makefile("rb") as lines:
            for line in lines:
                event = msgspec.json.decode(line, type=dict[str, int])
                if "exited" in event:
                    self._note_exit(event["exited"], event["code"])
                else:
                    self._announced.put(event)
        self._announced.put(None)

    def _note_exit(self, pid: int, code: int) -> None:
        with self._lock:
            connection = self._connections.get(pid)
            if connection is None:
                self._exited[pid] = code  # an orphan's, or of a worker that start() will register
            else:
                connection.events.put(code)

    def _wait_for(self, name: str, timeout_s: float) -> int:
        try:
            event = self._announced.get(timeout=timeout_s)
        except queue.Empty:
            event = None
        if event is None or name not in event:
            raise _lose()
        return event[name]


def _lose() -> LostServerError:
    return LostServerError(
        "the process that starts the workers did not answer",
        next_step="Set BSADVISOR_START_METHOD=spawn to do without it.",
    )


def _interrupt(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGUSR1)


def _find_terminal() -> int | None:
    """Return what the user's code reads from: the terminal, as without this program, or nothing."""
    try:
        return None if os.isatty(0) else subprocess.DEVNULL
    except OSError:  # closed
        return subprocess.DEVNULL
