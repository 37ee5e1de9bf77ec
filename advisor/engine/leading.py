"""Node 0 of several: it has the others run their ranks of each task, and sees where one goes."""

import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from msgspec.structs import replace

from advisor.engine.nodes import (
    GREETING_S,
    End,
    Hello,
    Link,
    Nodes,
    Ordered,
    Refused,
    Trouble,
    Welcome,
)
from advisor.engine.task import Task, WorkloadTask
from advisor.engine.wire import Place, make_order
from advisor.errors import AdvisorError, LostNodeError, UsageError


class Leader:
    """Node 0: a context in which others follow, and end with its exit code; or UsageError."""

    def __init__(self, nodes: Nodes) -> None:
        self.nodes = nodes
        self._links: dict[int, Link] = {}
        self._break_off: Callable[[AdvisorError], None] | None = None
        self._port, self._is_over = 0, False
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

    def gather(self, break_off: Callable[[AdvisorError], None]) -> None:
        """Wait until all are there, or raise LostNodeError; one that goes then breaks all off."""
        self._break_off = break_off
        ends_s = time.monotonic() + self.nodes.join_s
        while len(self._links) < self.nodes.count - 1:
            self._server.settimeout(max(0.01, ends_s - time.monotonic()))
            try:
                end, address = self._server.accept()
            except TimeoutError as error:
                raise LostNodeError(
                    f"{len(self._links) + 1} of {self.nodes.count} nodes came to "
                    f"{self.nodes.host}:{self.nodes.port} within {self.nodes.join_s:.0f} s",
                    next_step="Start the same command on each of them.",
                ) from error
            self._admit(Link(end), str(address[0]))
        self._server.close()

    def order(self, task: Task[Any]) -> Place | None:
        """Have the others run their ranks of a task; return where those of this node stand."""
        script = task.workload.script if isinstance(task, WorkloadTask) else None
        if script is None or not script.per_node:
            return None
        nodes, self._port = self.nodes, _find_free_port()
        for node, link in self._links.items():
            if script.list_ranks(node):
                place = Place(node=node, host=nodes.host, port=self._port)
                link.send(Ordered(order=make_order(task, "", place=place)))
        return Place(
            node=0,
            host=nodes.host,
            port=self._port,
            local_rank=nodes.local_rank,
            local_ranks=nodes.local_ranks,
        )

    def _admit(self, link: Link, address: str) -> None:
        """Take one in, or tell it why not."""
        hello = link.hear(GREETING_S)
        if not isinstance(hello, Hello):  # whatever knocks at ports
            link.close()
            return
        number = hello.node
        if number is None:
            number = next(n for n in range(1, self.nodes.count) if n not in self._links)
        why = self._find_objection(hello, number)
        if why:
            link.send(Refused(why=why))
            link.close()
            return
        link.send(Welcome(node=number))
        self._links[number] = link
        threading.Thread(target=self._listen, args=(number, link, address), daemon=True).start()

    def _find_objection(self, hello: Hello, number: int) -> str:
        own = Hello(
            name=self.nodes.name, count=self.nodes.count, per_node=self.nodes.per_node, node=None
        )
        if replace(hello, node=None) != own:
            mine, theirs = (f"{h.count} × {h.per_node} ranks" for h in (own, hello))
            return (
                f"it leads run {own.name!r} of version {own.version} with {mine}, and this is "
                f"{hello.name!r} of {hello.version} with {theirs}"
            )
        if not 0 < number < self.nodes.count or number in self._links:
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


def _find_free_port() -> int:
    with socket.create_server(("", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _find_exit_code(error: BaseException | None) -> int:
    """Return the code with which this command ends by what leaves it."""
    if error is None:
        return 0
    if isinstance(error, KeyboardInterrupt):
        return 130
    return int(getattr(error, "exit_code", AdvisorError.exit_code))
