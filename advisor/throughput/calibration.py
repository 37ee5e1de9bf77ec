"""A product of fixed matrices: how fast the machine is now, whatever the user's model does."""

import statistics
import time
from collections.abc import Callable

import torch

from advisor.training.device_clock import synchronise

#: Rows and columns: large enough to run at the machine's full speed, small enough for some ms.
_WIDTHS = {"cpu": 512, "cuda": 4096, "mps": 2048}
#: Products that warm up caches and threads, and products that are timed.
_WARMUP_PRODUCTS, _PRODUCTS = 3, 9


def make_product(device: torch.device) -> Callable[[], object]:
    """Return what issues one product of two float32 matrices on the device."""
    width = _WIDTHS[device.type]
    generator = torch.Generator().manual_seed(0)  # leaves the user's random numbers alone
    left, right = (
        torch.rand(width, width, generator=generator, dtype=torch.float32, device="cpu").to(device)
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
