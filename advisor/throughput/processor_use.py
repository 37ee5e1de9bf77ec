"""What the process took of the processors, and how many pages the kernel had to give it."""

import sys
from typing import NamedTuple

if sys.platform != "win32":
    from resource import RUSAGE_SELF, getrusage


class ProcessorUse(NamedTuple):
    """Totals since the process began, all threads together; or what lies between two of them."""

    page_faults: int = 0
    kernel_s: float = 0.0
    processor_s: float = 0.0

    def until(self, later: "ProcessorUse") -> "ProcessorUse":
        """Return what was taken from here to the later reading."""
        return ProcessorUse(
            later.page_faults - self.page_faults,
            later.kernel_s - self.kernel_s,
            later.processor_s - self.processor_s,
        )

    def plus(self, other: "ProcessorUse") -> "ProcessorUse":
        """Return both together."""
        return ProcessorUse(
            self.page_faults + other.page_faults,
            self.kernel_s + other.kernel_s,
            self.processor_s + other.processor_s,
        )


def read_processor_use() -> ProcessorUse:
    """Return the totals so far; all zero where the system does not tell."""
    if sys.platform == "win32":
        return ProcessorUse()
    use = getrusage(RUSAGE_SELF)
    return ProcessorUse(use.ru_minflt, use.ru_stime, use.ru_stime + use.ru_utime)
