"""A process that has imported torch once and forks a fresh worker for each order.

A forked worker costs some tens of milliseconds where a new interpreter costs the import of torch.
The server itself runs no tensor operation and never touches CUDA: both start threads or contexts
that do not survive a fork. It is the reaper of everything its workers leave behind. When its parent
hangs up, by will or by death, it kills all that and ends.

    parent --(socket pair: a worker's connection)--> server --fork--> worker
    parent <--(its process)---------------------------/
    parent <--(its connection: what it says; from the server, how it ended)---/
"""

import contextlib
import ctypes
import importlib
import importlib.util
import os
import select
import signal
import socket
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import msgspec

from advisor.engine.connection import kill_tree
from advisor.engine.wire import Exited
from advisor.engine.worker.entry import run_worker

#: torch imports torch._dynamo at the first step of any optimizer, which takes most of a second.
_PRELOADED = ("torch", "torch._dynamo")
#: Packages that may open the GPU as they are imported, unseen by torch: each worker imports them.
_OPENS_DEVICE = {"cupy", "jax", "pycuda", "tensorflow"}

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    """Preload, then serve forks until the parent hangs up."""
    control = socket.socket(fileno=int(sys.argv[1]))
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _preload(_PRELOADED)
    _tell(control, os.getpid())  # what follows is the user's, and may take any time
    _preload(sys.argv[2:])
    # From here on the socket tells of the parent's end; the signal would leave orphans behind.
    _prctl(_PR_SET_PDEATHSIG, 0)
    wake, woken = socket.socketpair()  # by the end of a worker, or of what it left behind
    wake.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake.fileno())
    _tell(control, os.getpid())
    workers: dict[int, int] = {}  # connections, by process
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            woken.recv(4096)
            _reap(workers)
        if control in ready:
            connection = _receive(control)
            if connection is None:
                kill_tree(os.getpid(), but_root=True)
                os._exit(0)  # tearing torch down takes seconds on a loaded machine
            ours = control.fileno(), wake.fileno(), woken.fileno(), *workers.values()
            pid = _fork(connection, ours)
            workers[pid] = connection
            _tell(control, pid)


def _receive(control: socket.socket) -> int | None:
    """Return the next worker's connection; None where the parent hung up."""
    try:
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
    except OSError:  # reset: the parent died with an event unread
        return None
    return descriptors[0] if descriptors else None


def _fork(connection: int, others: tuple[int, ...]) -> int:
    """Return the process of a new worker, which has nothing of what is the server's own."""
    pid = os.fork()
    if pid:
        return pid
    try:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        for other in others:
            os.close(other)
        run_worker(os.fdopen(os.dup(connection), "rb"), os.fdopen(connection, "wb"))
    finally:
        os._exit(70)


def _preload(names: Sequence[str]) -> None:
    """Import torch, or the installed packages that the user's file names.

    Only packages of the installation: the user's own modules must run afresh in each worker. A
    package that cannot be imported here fails again, with its message, in the worker.
    """
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # the other check poisons a fork
    for name in names:
        try:
            if name.partition(".")[0] not in _OPENS_DEVICE and _is_installed(name):
                importlib.import_module(name)
        except BaseException:  # noqa: BLE001, S112
            continue


def _is_installed(name: str) -> bool:
    top = importlib.util.find_spec(name.partition(".")[0])
    if top is None or top.origin is None:
        return False
    if top.origin in {"built-in", "frozen"}:
        return True
    roots = {Path(sysconfig.get_path(key)).resolve() for key in ("purelib", "platlib", "stdlib")}
    return any(root in Path(top.origin).resolve().parents for root in roots)


def _reap(workers: dict[int, int]) -> None:
    """Say of each worker that has ended how it did, where it would itself; orphans just go."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            if pid in workers:
                word = msgspec.json.encode(Exited(code=os.waitstatus_to_exitcode(status)))
                with contextlib.suppress(OSError), open(workers.pop(pid), "wb") as connection:  # noqa: PTH123 - a number
                    connection.write(b"\n" + word + b"\n")  # its last line may have no end


def _tell(control: socket.socket, pid: int) -> None:
    with contextlib.suppress(OSError):  # the parent has gone, as the next read will tell
        control.sendall(b"%d\n" % pid)


def _prctl(option: int, value: int) -> None:
    ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
