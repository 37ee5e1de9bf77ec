"""A node that follows: it runs its ranks of each task that the leader orders, and keeps nothing."""

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Callable

from advisor import __version__
from advisor.engine.nodes import (
    GREETING_S,
    Answer,
    End,
    Hello,
    Link,
    Nodes,
    Ordered,
    Said,
    Trouble,
    Unknown,
)
from advisor.engine.runner import COLD_START_S, Runner
from advisor.engine.task import EnvironmentTask
from advisor.engine.wire import Place
from advisor.errors import AdvisorError, LostNodeError
from advisor.training.data import Target

#: The leader ends every task; this is only a number.
_LONGEST_S = 1e7
#: For the leader to say its last word and end.
_PRINTING_S = 10.0


def follow(nodes: Nodes, target: Target, tell: Callable[[str], None]) -> int:
    """Return the leader's exit code once it has ended.

    `tell` gets the one line that this node has to say.

    Raises:
        LostNodeError: It cannot be reached, or has gone.
    """
    link, number = _connect(nodes)
    tell(f"bsadvisor: node {number} of {nodes.count} follows {nodes.address}")
    said: queue.SimpleQueue[Said | None] = queue.SimpleQueue()
    gone = LostNodeError(
        f"the leader at {nodes.address} has gone",
        next_step="See what it printed; then start the same command on each node.",
    )
    try:
        with Runner(target) as runner:
            threading.Thread(target=_listen, args=(link, said, runner, gone), daemon=True).start()
            with contextlib.suppress(LostNodeError):  # the server of its workers: the leader's
                runner.run(EnvironmentTask(device="cpu"), timeout_s=COLD_START_S)  # loads, too
            while not isinstance(message := said.get(), End):
                if message is None:
                    raise gone
                if isinstance(message, Ordered):
                    _obey(runner, message, nodes.place(number, message.port), link)
        link.hear(_PRINTING_S)  # its end: a launcher ends them all with the first of them
    finally:
        link.close()
    return message.exit_code


def _listen(
    link: Link, said: "queue.SimpleQueue[Said | None]", runner: Runner, gone: AdvisorError
) -> None:
    """Pass on what the leader says; its end breaks off what still runs."""
    while isinstance(message := link.hear(), Ordered):
        said.put(message)
    runner.break_off(gone)
    said.put(message if isinstance(message, End) else None)


def _obey(runner: Runner, ordered: Ordered, place: Place, link: Link) -> None:
    """Run this node's ranks of a task, and say where that failed."""
    try:
        runner.run(ordered.order.decode_task(), timeout_s=_LONGEST_S, place=place)
    except LostNodeError:
        return  # the next message tells of it
    except AdvisorError as error:
        link.send(Trouble(port=ordered.port, message=error.message))


def _connect(nodes: Nodes) -> tuple[Link, int]:
    """Return the connection to the leader, and this node's number; LostNodeError without either."""
    ends_s = time.monotonic() + nodes.join_s
    while (left_s := ends_s - time.monotonic()) > 0.0:
        with contextlib.suppress(OSError, UnicodeError):  # not there, or no name of a machine
            link = Link(socket.create_connection((nodes.host, nodes.port), timeout=GREETING_S))
            link.send(Hello(nodes=nodes))
            answer = link.hear(left_s)
            if isinstance(answer, Answer) and answer.node is not None:
                return link, answer.node
            link.close()
            if isinstance(answer, Answer):
                raise LostNodeError(
                    f"the leader at {nodes.address} refuses this node: {answer.why}",
                    next_step="Start the same command on each node, with a --node-rank of its own.",
                )
            if isinstance(answer, Unknown):
                raise LostNodeError(
                    f"what answers at {nodes.address} is no bsadvisor of version {__version__}",
                    next_step="Install one version on all nodes, or name another port.",
                )
        time.sleep(0.2)
    raise LostNodeError(
        f"no leader answers at {nodes.address} within {nodes.join_s:.0f} s",
        next_step="Start the same command on the node with that address, with --node-rank 0.",
    )
