"""Whether somebody set the card's power limit below what it left the factory with."""

from collections.abc import Iterable
from typing import NamedTuple

from advisor.device.data import Counter


class PowerCap(NamedTuple):
    """A limit below the default."""

    limit_w: float
    default_w: float


def find_power_cap(counters: Iterable[Counter]) -> PowerCap | None:
    """Return the power cap; None where there is none or the limits are not known.

    Args:
        counters: Of an environment.
    """
    values = {counter.name: counter.value for counter in counters}
    limit_w, default_w = values.get("power_limit"), values.get("power_limit_default")
    if limit_w is None or default_w is None or limit_w >= default_w:
        return None
    return PowerCap(limit_w, default_w)
