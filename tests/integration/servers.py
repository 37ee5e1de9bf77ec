"""Servers of workers that outlive the commands of a test process: each imports torch once."""

import sys
import time

from advisor.engine.runner import COLD_START_S
from advisor.engine.starters import Forkserver


class _Kept(Forkserver):
    """A server that a command leaves as it found it, without workers."""

    def close(self):
        self.clean_up()

    def end(self):
        super().close()

    @property
    def has_ended(self):
        return self._server.poll() is not None

    @property
    def pid(self):
        return self._server.pid


class Servers:
    """One for each set of packages that model files name."""

    def __init__(self):
        self._kept = {}

    def open(self, preload, deadline):
        """Return the server that has these imported; torch and Python's own need no other.

        The command's deadline is not for it: no budget pays for a server.
        """
        tops = {name.partition(".")[0] for name in preload} - {"torch", *sys.stdlib_module_names}
        key = tuple(sorted(tops))
        kept = self._kept.get(key)
        if kept is not None and kept.has_ended:
            kept.end()
        if kept is None or kept.has_ended:
            self._kept[key] = _Kept(preload, time.monotonic() + COLD_START_S)
        return self._kept[key]

    def list_pids(self):
        """The processes that a command may leave."""
        return {server.pid for server in self._kept.values()}

    def close(self):
        for server in self._kept.values():
            server.end()
