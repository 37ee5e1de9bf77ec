"""How long the clock was held down, by cause, since the driver was loaded.

The power and policy counters have kept their numbers. Those of heat by hardware and of the power
brake have not: the driver's releases number them differently (570 has power smoothing there), and
pynvml knows one numbering, that of its own release. So the number is chosen by the driver, and the
answer must be of the counters' type.
"""

from contextlib import suppress
from typing import Any

from advisor.device.counters import Read, UnreadableError, refuse

_S_PER_NS = 1e-9

#: Numbers of the fields, and of the same cause for nvmlDeviceGetViolationStatus; none of both for
#: the brake, which newer drivers alone have.
_CAUSES: dict[str, tuple[int, int] | None] = {
    "power_cap": (74, 0),
    "thermal": (75, 1),
    "brake": None,
    "sync_boost": (76, 2),
    "board_limit": (77, 3),
    "low_utilization": (78, 4),
    "reliability": (79, 5),
}
PREFIX = "slowdown_"
SLOWDOWN_COUNTERS = tuple(f"{PREFIX}{cause}" for cause in _CAUSES)

#: What the driver writes where it knows no value.
_UNKNOWN = 2**64 - 1
#: NVML_VALUE_TYPE_UNSIGNED_LONG and _LONG_LONG; the fields of other meanings are narrower.
_COUNTER_TYPES = {2: "ulVal", 3: "ullVal"}


#: Numbers of the fields for heat, by the driver's software and by hardware, and for the brake, from
#: this driver on; None where no release tells.
_NUMBERINGS: tuple[tuple[tuple[int, ...], tuple[int, int, int] | None], ...] = (
    ((580, 82), (269, 270, 271)),
    ((580, 66), None),
    ((575, 0), (251, 252, 253)),
    ((0, 0), None),
)


def open_slowdowns(nvml: Any, handle: Any) -> dict[str, Read]:
    """Return what reads the seconds by cause.

    A cause with several counters keeps to the first that works now: they do not agree, and a series
    from two of them would jump.
    """

    def open_fields(*numbers: int) -> Read:
        return lambda: sum(
            _read_field(nvml, field) for field in nvml.nvmlDeviceGetFieldValues(handle, numbers)
        )

    def open_policy(number: int) -> Read:
        return lambda: _seconds(nvml.nvmlDeviceGetViolationStatus(handle, number).violationTime)

    ways = {
        cause: [] if numbers is None else [open_fields(numbers[0]), open_policy(numbers[1])]
        for cause, numbers in _CAUSES.items()
    }
    numbering = _choose_numbering(nvml.nvmlSystemGetDriverVersion())
    if numbering is not None:
        # Software's and hardware's time added up: at most twice the true time.
        software, hardware, brake = numbering
        ways["thermal"].insert(0, open_fields(software, hardware))
        ways["brake"].append(open_fields(brake))
    reads = refuse(SLOWDOWN_COUNTERS, "not_supported")
    return reads | {f"{PREFIX}{cause}": _choose_way(each) for cause, each in ways.items() if each}


def _choose_numbering(driver: str) -> tuple[int, int, int] | None:
    parts = driver.split(".")[:2]
    if not all(part.isdecimal() for part in parts):
        return None
    version = tuple(map(int, parts))
    return next(fields for first, fields in _NUMBERINGS if version >= first)


def _choose_way(ways: list[Read]) -> Read:
    for read in ways:
        with suppress(Exception):  # NVMLError's subclasses are made at run time
            read()
            return read
    return ways[0]


def _read_field(nvml: Any, field: Any) -> float:
    if field.nvmlReturn:
        raise nvml.NVMLError(field.nvmlReturn)
    if field.valueType not in _COUNTER_TYPES:
        raise UnreadableError("not_supported")
    return _seconds(getattr(field.value, _COUNTER_TYPES[field.valueType]))


def _seconds(nanoseconds: int) -> float:
    if nanoseconds == _UNKNOWN:
        raise UnreadableError("not_supported")
    return nanoseconds * _S_PER_NS
