"""Servers of workers that outlive the commands of a test process: each imports torch once."""

import sys
import time

from advisor.engine.runner import COLD_START_S
from advisor.engine.starters import Forkserver

#: Each takes seconds to import, and they import one another: one server has them all.
LIBRARIES = {"accelerate", "lightning", "transformers"}


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
    """One for all model files whose packages it has."""

    def __init__(self):
        self._kept = {}

    def open(self, preload, deadline):
        """Return a server that has these imported; torch and Python's own need no other.

        The command's deadline is not for it: no budget pays for a server.
        """
        tops = {name.partition(".")[0] for name in preload} - {"torch", *sys.stdlib_module_names}
        names = frozenset(tops | LIBRARIES if tops & LIBRARIES else tops)
        alive = (each for own, each in self._kept.items() if names <= own and not each.has_ended)
        found = next(alive, None)
        if found is None:
            if names in self._kept:
                self._kept[names].end()
            found = _Kept([*preload, *sorted(names)], time.monotonic() + COLD_START_S)
            self._kept[names] = found
        return found

    def list_pids(self):
        """The processes that a command may leave."""
        return {server.pid for server in self._kept.values()}

    def close(self):
        for server in self._kept.values():
            server.end()
