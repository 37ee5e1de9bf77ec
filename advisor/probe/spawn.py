"""A worker as a new interpreter: slower to start than a fork, and the only way on some systems."""

import os
import signal
import subprocess
import threading

from advisor.probe.connection import Connection, Exit, kill_tree, python_command


class Spawner:
    """Starts each worker as `python -m advisor.worker`, the order on its stdin."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, order: bytes) -> Connection:
        """Return the connection to a new worker that has been sent the order."""
        process = subprocess.Popen(
            python_command("advisor.worker.__main__"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        connection = Connection(
            process.pid,
            process.stdout,
            lambda: _interrupt(process.pid),
        )
        with process.stdin as orders:
            orders.write(order)
        threading.Thread(
            target=lambda: connection.events.put(Exit(process.wait())), daemon=True
        ).start()
        return connection

    def clean_up(self) -> None:
        """Kill the worker and whatever it started, as far as the system still knows whose it is."""
        if self._process is not None:
            kill_tree(self._process.pid)

    def close(self) -> None:
        """Leave nothing behind."""
        self.clean_up()


def _interrupt(pid: int) -> None:
    if hasattr(signal, "SIGUSR1"):
        os.kill(pid, signal.SIGUSR1)
