"""What can be counted of the processors on any machine."""

import time

from advisor.device.cpu_load import open_foreign_load
from advisor.device.data import Counter
from advisor.device.rapl import open_package_energy

#: Time over which the share of others is taken.
_WINDOW_S = 0.2


def read_processor_counters() -> tuple[Counter, ...]:
    """Return the energy of the packages and the share of processor time that others take now.

    Takes a moment: a share needs two readings.
    """
    load = open_foreign_load("foreign_cpu")
    time.sleep(_WINDOW_S)
    return (*load.read(), *open_package_energy("cpu_energy").read())
