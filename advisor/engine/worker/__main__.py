"""A worker started afresh: the order on stdin, the messages on what was stdout."""

import os
import sys

from advisor.engine.worker.entry import run_worker


def main() -> None:
    """Move the connection away from the user's stdout, then run the one order."""
    incoming, outgoing = os.dup(0), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    with os.fdopen(incoming, "rb") as orders, os.fdopen(outgoing, "wb") as messages:
        run_worker(orders, messages)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # the user's atexit handlers and threads must not hold the worker
