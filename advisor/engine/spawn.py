"""A worker as a new interpreter: slower to start than a fork, and the only way on some systems."""

import contextlib
import os
import signal
import subprocess
import threading

import psutil

from advisor.engine.connection import Connection, kill_tree, python_command


class Spawner:
    """Starts each worker as a new interpreter, the order on its stdin."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, order: bytes) -> Connection:
        """Return the connection to a new worker that has been sent the order."""
        process = subprocess.Popen(
            python_command("advisor.engine.worker.__main__"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        connection = Connection(process.pid, process.stdout, lambda: _interrupt(process))
        # A worker that died at once says how by its exit status.
        with contextlib.suppress(BrokenPipeError), process.stdin as orders:
            orders.write(order)
        threading.Thread(target=lambda: connection.events.put(process.wait()), daemon=True).start()
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


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    if hasattr(signal, "SIGUSR1"):
        process.send_signal(signal.SIGUSR1)  # none where it has ended
