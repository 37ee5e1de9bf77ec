"""Several nodes that run one script: node 0 leads, the others do what it orders.

    leader --(welcome, a line for each order, the end)--> follower: its own workers
    leader <--(who it is; what its worker failed of)----- follower

A follower's connection lasts as long as the command, so either side sees at once where the other
ends. What the workers of one task tell each other goes between them (`worker/nodes.py`).
"""

import contextlib
import socket

import msgspec
from msgspec.structs import replace

from advisor import __version__
from advisor.engine.wire import Order
from advisor.training.data import Script

#: What a connection gets to say who it is, in seconds.
GREETING_S = 5.0
#: A peer that answers nothing, as where its machine went down, is gone after idle + count × pause.
_IDLE_S, _PAUSE_S, _COUNT = 3, 2, 3


class Nodes(msgspec.Struct, frozen=True, kw_only=True):
    """Which of several nodes this is; under an allocation each of its processes is one.

    Attributes:
        per_node: Ranks that each of them starts.
        node: None lets the leader give the number.
        host: Of the leader, as all others know it.
        join_s: For all of them to come.
        local_rank: Of its first rank, among `local_ranks` on this machine.
    """

    count: int
    per_node: int
    node: int | None
    host: str
    port: int
    name: str = ""
    join_s: float
    local_rank: int = 0
    local_ranks: int

    def spread(self, script: Script) -> Script:
        """Return the script with a rank for each place of theirs."""
        return replace(
            script,
            ranks=self.count * self.per_node,
            launch=(),
            per_node=self.per_node,
            local_ranks=self.local_ranks,
        )


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """The first line of a follower."""

    version: str = __version__
    name: str
    count: int
    per_node: int
    node: int | None


class Trouble(msgspec.Struct, frozen=True, kw_only=True, tag="trouble"):
    """What a follower's worker failed of, in the order with this port."""

    port: int
    message: str


class Welcome(msgspec.Struct, frozen=True, kw_only=True, tag="welcome"):
    """The follower is one of them, with this number."""

    node: int


class Refused(msgspec.Struct, frozen=True, kw_only=True, tag="refused"):
    """The follower is none of them."""

    why: str


class Ordered(msgspec.Struct, frozen=True, kw_only=True, tag="ordered"):
    """A task for its worker."""

    order: Order


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """The command is over, with this exit code of the leader."""

    exit_code: int


Said = Hello | Trouble | Welcome | Refused | Ordered | End


class Link:
    """A connection between two nodes, a line for each message."""

    def __init__(self, end: socket.socket) -> None:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        more = (("KEEPIDLE", _IDLE_S), ("KEEPINTVL", _PAUSE_S), ("KEEPCNT", _COUNT))
        unheard = (("USER_TIMEOUT", 1000 * (_IDLE_S + _PAUSE_S * _COUNT)),)
        for name, value in (*more, *unheard):
            if hasattr(socket, f"TCP_{name}"):  # not on every system
                end.setsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{name}"), value)
        self._end, self._lines = end, end.makefile("rb")

    def send(self, message: Said) -> None:
        """Send a message; to whom has gone, nothing."""
        with contextlib.suppress(OSError):  # the next read tells
            self._end.sendall(msgspec.json.encode(message) + b"\n")

    def hear(self, timeout_s: float | None = None) -> Said | None:
        """Return the next message; None where the other has gone, or is none of ours."""
        try:
            self._end.settimeout(timeout_s)
            line = self._lines.readline()
            message: Said = msgspec.json.decode(line, type=Said)
        except (OSError, ValueError, msgspec.MsgspecError):
            return None
        return message

    def close(self) -> None:
        """Have the other see the end."""
        with contextlib.suppress(OSError):  # it has gone
            self._end.shutdown(socket.SHUT_RDWR)
        self._lines.close()  # a read in another thread has ended by now
        self._end.close()
