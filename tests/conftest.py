"""What all tests share: one at a time where this machine is measured, long ones last."""

import fcntl
import tempfile
from pathlib import Path

import pytest

#: All tests of all processes share it; one that measures the machine has it for itself.
_LOCK = Path(tempfile.gettempdir()) / "bsadvisor-tests.lock"


def pytest_collection_modifyitems(items):
    """Run what measures the machine last: the others need not wait for it one by one."""
    items.sort(key=lambda item: item.get_closest_marker("serial") is not None)


@pytest.fixture(autouse=True)
def _turn(request):
    """Wait until no other test measures the machine, or, to measure it, until none runs."""
    is_serial = request.node.get_closest_marker("serial") is not None
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX if is_serial else fcntl.LOCK_SH)
        yield
