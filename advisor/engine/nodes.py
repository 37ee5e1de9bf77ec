"""Several nodes that run one script: node 0 leads, the others do what it orders.

    leader --(welcome, a line for each order, the end)--> follower: its own workers
    leader <--(who it is; what its worker failed of)----- follower

A follower's connection lasts as long as the command, so either side sees at once where the other
ends. What the workers of one task tell each other goes between them (`worker/nodes.py`).
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Annotated, Any, Self

import msgspec
from msgspec.structs import replace

from advisor import __version__
from advisor.engine.task import Task
from advisor.engine.wire import Order, Place, make_order
from advisor.errors import AdvisorError, LostNodeError, UsageError
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
    port: Annotated[int, msgspec.Meta(ge=1, le=65_535)]
    name: str = ""
    join_s: Annotated[float, msgspec.Meta(le=1e6)]
    local_rank: int = 0
    local_ranks: int

    @property
    def address(self) -> str:
        """Where the leader is found."""
        return f"{self.host}:{self.port}"

    def spread(self, script: Script) -> Script:
        """Return the script with a rank for each place of theirs."""
        ranks, local_ranks = self.count * self.per_node, self.local_ranks
        return replace(
            script, ranks=ranks, launch=(), per_node=self.per_node, local_ranks=local_ranks
        )

    def place(self, node: int, port: int) -> Place:
        """Return where the ranks of this node stand in a task."""
        return Place(
            node=node,
            host=self.host,
            port=port,
            local_rank=self.local_rank,
            local_ranks=self.local_ranks,
        )


class Hello(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """The first line of a follower: who it is."""

    version: str = __version__
    nodes: Nodes

    def describe(self) -> str:
        """Return what is the same on all nodes."""
        nodes = self.nodes
        ranks = f"{nodes.count} × {nodes.per_node} ranks"
        return f"run {nodes.name!r} of version {self.version} with {ranks}"


class Answer(msgspec.Struct, frozen=True, kw_only=True, tag="answer"):
    """The number of a follower; None where it is none of them, and why."""

    node: int | None = None
    why: str = ""


class Ordered(msgspec.Struct, frozen=True, kw_only=True, tag="ordered"):
    """A task for a follower's worker, whose ranks meet those of others at this port."""

    order: Order
    port: int


class Trouble(msgspec.Struct, frozen=True, kw_only=True, tag="trouble"):
    """What a follower's worker failed of, in the order with this port."""

    port: int
    message: str


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end"):
    """The command is over, with this exit code of the leader."""

    exit_code: int


Said = Hello | Answer | Ordered | Trouble | End


class Unknown(msgspec.Struct, frozen=True, kw_only=True, tag="hello"):
    """A line that this version cannot read; of a follower, every version's has its version."""

    version: str = ""


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

    def hear(self, timeout_s: float | None = None) -> Said | Unknown | None:
        """Return the next message; None where the other has gone."""
        try:
            self._end.settimeout(timeout_s)
            line = self._lines.readline()
        except (OSError, ValueError):
            return None
        if not line.endswith(b"\n"):
            return None
        for kind in (Said, Unknown):
            with contextlib.suppress(ValueError, msgspec.MsgspecError):
                message: Said | Unknown = msgspec.json.decode(line, type=kind)
                return message
        return Unknown()

    def close(self) -> None:
        """Have the other see the end."""
        with contextlib.suppress(OSError):  # it has gone
            self._end.shutdown(socket.SHUT_RDWR)
        self._lines.close()  # a read in another thread has ended by now
        self._end.close()


class Leader:
    """Node 0: a context in which others follow, and end with its exit code; or UsageError."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self._links: dict[int, Link] = {}
        self._break_off: Callable[[AdvisorError], None] | None = None
        self._port, self._is_over, self._refused = 0, False, ""
        try:
            self._server = socket.create_server(("", nodes.port))
        except OSError as error:
            raise UsageError(
                f"port {nodes.port}, where the other nodes are to find this one, cannot be had: "
                f"{error.strerror}",
                next_step="Name another port in --rdzv-endpoint or --master-port.",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, frames: object) -> None:
        self._is_over = True
        self._server.close()
        for link in self._links.values():  # which close with this process, all printed
            link.send(End(exit_code=_find_exit_code(error)))

    def gather(
        self, break_off: Callable[[AdvisorError], None], note: Callable[[str], None]
    ) -> None:
        """Wait until all are there, or raise LostNodeError; one that goes then breaks all off.

        Those that are refused are noted.
        """
        self._break_off = break_off
        ends_s = time.monotonic() + self.nodes.join_s
        while len(self._links) < self.nodes.count - 1:
            self._server.settimeout(max(0.01, ends_s - time.monotonic()))
            try:
                end, address = self._server.accept()
            except TimeoutError as error:
                raise LostNodeError(
                    f"{len(self._links) + 1} of {self.nodes.count} nodes came to "
                    f"{self.nodes.address} within {self.nodes.join_s:.0f} s{self._refused}",
                    next_step="Start the same command on each of them.",
                ) from error
            why = self._admit(Link(end), str(address[0]))
            if why:
                note(f"a node at {address[0]} is refused: {why}")
                self._refused = f"; the last that was refused: {why}"
        self._server.close()

    def order(self, task: Task[Any]) -> Place | None:
        """Have the others run their ranks of a task; return where those of this node stand."""
        script = task.script
        if script is None or not script.per_node:
            return None
        with socket.create_server(("", 0)) as server:  # any that is free
            self._port = server.getsockname()[1]
        for node, link in self._links.items():
            if script.list_ranks(node):
                link.send(Ordered(order=make_order(task, ""), port=self._port))
        return self.nodes.place(0, self._port)

    def _admit(self, link: Link, address: str) -> str:
        """Take a node in; return why it is refused, empty where it is not or is none."""
        hello = link.hear(GREETING_S)
        why = self._find_obstacle(hello)
        if why or not isinstance(hello, Hello):  # or whatever knocks at ports
            if why:
                link.send(Answer(why=why))
            link.close()
            return why
        number = hello.nodes.node
        if number is None:
            number = next(n for n in range(1, self.nodes.count) if n not in self._links)
        link.send(Answer(node=number))
        self._links[number] = link
        threading.Thread(target=self._listen, args=(number, link, address), daemon=True).start()
        return ""

    def _find_obstacle(self, hello: Said | Unknown | None) -> str:
        own = Hello(nodes=self.nodes).describe()
        if isinstance(hello, Unknown) and hello.version:
            return f"the leader has {own}, and this node version {hello.version}"
        if not isinstance(hello, Hello):
            return ""
        number = hello.nodes.node
        if own != hello.describe():
            return f"the leader has {own}, and this node {hello.describe()}"
        if number is not None and (not 0 < number < self.nodes.count or number in self._links):
            return f"node {number} is there already"
        return ""

    def _listen(self, number: int, link: Link, address: str) -> None:
        """Break the command off once a follower is in trouble, or has gone."""
        assert self._break_off is not None
        while (message := link.hear()) is not None:
            if isinstance(message, Trouble) and message.port == self._port:
                self._break_off(LostNodeError(f"node {number} ({address}): {message.message}"))
        if not self._is_over:
            self._break_off(
                LostNodeError(
                    f"node {number} ({address}) has gone",
                    next_step="See what it printed; then start the same command on each node.",
                )
            )


def _find_exit_code(error: BaseException | None) -> int:
    """Return the code with which this command ends by what leaves it."""
    if error is None or isinstance(error, KeyboardInterrupt):
        return 130 if error else 0
    return int(getattr(error, "exit_code", AdvisorError.exit_code))
