"""How fast the machine is whatever the model does: a fixed product, a GPU that has warmed up."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Iterator

import torch

from advisor.training.devices import synchronise

#: Rows and columns: large enough to run at the machine's full speed, small enough for some ms.
_WIDTHS = {"cpu": 512, "cuda": 4096, "mps": 2048}
#: Products that warm up caches and threads, and products that are timed.
_WARMUP_PRODUCTS, _PRODUCTS = 3, 9
#: Length of a window of work between two readings.
_WINDOW_S = 0.25
#: Readings in a row that must agree.
_READINGS = 4
#: Most that the clock may differ over them, as a share of the highest.
_CLOCK_FRACTION = 0.01


def make_product(device: torch.device) -> Callable[[], object]:
    """Return what issues one product of two float32 matrices on the device."""
    width = _WIDTHS[device.type]
    generator = torch.Generator(device).manual_seed(0)  # leaves the user's random numbers alone
    left, right = (
        torch.rand(width, width, generator=generator, dtype=torch.float32, device=device)
        for _ in range(2)
    )
    return lambda: torch.mm(left, right)


def count_product_flops(device: torch.device) -> int:
    """Return the operations of that product."""
    return 2 * int(_WIDTHS[device.type]) ** 3


def time_product(device: torch.device) -> float:
    """Return the median seconds of a product; nothing of it stays in memory."""
    multiply = make_product(device)
    for _ in range(_WARMUP_PRODUCTS):
        multiply()
    times_s = []
    for _ in range(_PRODUCTS):
        synchronise(device)
        started = time.perf_counter()
        multiply()
        synchronise(device)
        times_s.append(time.perf_counter() - started)
    return statistics.median(times_s)


def settle_device(
    work: Callable[[], object], device: torch.device, *, most_s: float
) -> bool | None:
    """Work until the clock is flat, and return whether it was in that time; None where none tells.

    A cold GPU starts at a high clock and loses it as it warms up, so that the first blocks would be
    faster than the rest; what it loses later all sizes share, as their blocks take turns. On a CPU
    the windows of the warm-up alone judge.
    """
    if device.type == "cpu":
        return True
    if device.type != "cuda" or torch.version.hip or _read(device) is None:
        return None
    return is_settled(_readings(work, device, most_s))


def is_settled(clocks_mhz: Iterable[float | None]) -> bool | None:
    """Return whether some readings of the clock in a row agree; reads no further than that.

    None where a reading is missing before they do.
    """
    last: list[float] = []
    for clock_mhz in clocks_mhz:
        if clock_mhz is None:
            return None
        last = [*last, clock_mhz][-_READINGS:]
        if len(last) == _READINGS and max(last) - min(last) <= _CLOCK_FRACTION * max(last):
            return True
    return False


def _readings(
    work: Callable[[], object], device: torch.device, most_s: float
) -> Iterator[float | None]:
    deadline = time.monotonic() + most_s
    while time.monotonic() < deadline:
        window_ends = time.monotonic() + _WINDOW_S
        while time.monotonic() < window_ends:
            for _ in itertools.repeat(None, 8):
                work()
            synchronise(device)
        yield _read(device)


def _read(device: torch.device) -> float | None:
    """Return the clock in MHz by torch's own view of the driver, None where it has none."""
    try:
        return float(torch.cuda.clock_rate(device))
    except Exception:  # noqa: BLE001 - pynvml's errors are made at run time; its absence is another
        return None
