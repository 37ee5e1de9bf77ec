"""When the command began: a budget is of the wall clock that its user sees."""

import os
import time
from contextvars import ContextVar
from pathlib import Path

#: By the monotonic clock; None where the process is not the command's own.
BEGAN_S: ContextVar[float | None] = ContextVar("began_s", default=None)
#: An age beyond it is a clock that counts otherwise.
_MOST_S = 60.0


def find_process_start_s() -> float:
    """Return when this process began, by the monotonic clock: before the interpreter was up."""
    least_s = time.process_time()
    try:
        after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        began_s = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
        age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - began_s
    except (OSError, ValueError, IndexError, AttributeError):  # not on Linux
        age_s = least_s
    return time.monotonic() - (age_s if least_s <= age_s <= _MOST_S else least_s)
