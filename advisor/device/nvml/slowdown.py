"""How long the clock was held down, by cause, since the driver was loaded.

The power and policy counters have kept their numbers. Those of heat by hardware and of the power
brake have not: the driver's releases number them differently (570 has power smoothing there), and
pynvml knows one numbering, that of its own release. So the number is chosen by the driver, and the
answer must be of the counters' type.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from advisor.device.counters import UnreadableError, read_counter
from advisor.device.data import Counter

PREFIX = "slowdown_"
_S_PER_NS = 1e-9

#: Numbers of the fields, and of the same cause for nvmlDeviceGetViolationStatus.
_POWER_FIELD, _POWER_POLICY = 74, 0
_THERMAL_FIELD, _THERMAL_POLICY = 75, 1
_OTHER_CAUSES = {
    "sync_boost": (76, 2),
    "board_limit": (77, 3),
    "low_utilization": (78, 4),
    "reliability": (79, 5),
}

SLOWDOWN_COUNTERS = tuple(
    f"{PREFIX}{cause}" for cause in ("power_cap", "thermal", "brake", *_OTHER_CAUSES)
)

#: What the driver writes where it knows no value.
_UNKNOWN = 2**64 - 1
#: NVML_VALUE_TYPE_UNSIGNED_LONG and _LONG_LONG; the fields of other meanings are narrower.
_COUNTER_TYPES = {2: "ulVal", 3: "ullVal"}


class _ThermalFields(NamedTuple):
    """Numbers of the fields for heat, by the driver's software and by hardware, and the brake."""

    software: int
    hardware: int
    brake: int


#: The first driver that numbers them so; None where no release tells.
_NUMBERINGS: tuple[tuple[tuple[int, ...], _ThermalFields | None], ...] = (
    ((580, 82), _ThermalFields(269, 270, 271)),
    ((580, 66), None),
    ((575, 0), _ThermalFields(251, 252, 253)),
    ((0, 0), None),
)


#: Reads the seconds of a field by its number, of all that one call gave.
_Fields = Callable[[int], float]
_Way = Callable[[_Fields], float]


def open_slowdowns(nvml: Any, handle: Any) -> Callable[[], tuple[Counter, ...]]:
    """Return a function that reads the seconds by cause.

    A cause with several counters keeps to the first that works now: they do not agree, and a series
    from two of them would jump.
    """
    numbering = _choose_numbering(nvml.nvmlSystemGetDriverVersion())
    numbers = [_POWER_FIELD, _THERMAL_FIELD, *(field for field, _ in _OTHER_CAUSES.values())]
    numbers += numbering or ()
    now = _look(nvml, handle, numbers)
    ways = {
        f"{PREFIX}{cause}": _choose_way(candidates, now)
        for cause, candidates in _list_ways(nvml, handle, numbering).items()
    }

    def read() -> tuple[Counter, ...]:
        fields = _look(nvml, handle, numbers)
        return tuple(read_counter(name, "s", partial(way, fields)) for name, way in ways.items())

    return read


def _choose_numbering(driver: str) -> _ThermalFields | None:
    parts = driver.split(".")[:2]
    if not all(part.isdecimal() for part in parts):
        return None
    version = tuple(map(int, parts))
    return next(fields for first, fields in _NUMBERINGS if version >= first)


def _look(nvml: Any, handle: Any, numbers: list[int]) -> _Fields:
    """Ask for all fields at once; where that fails, reading any of them raises why."""
    try:
        fields = dict(zip(numbers, nvml.nvmlDeviceGetFieldValues(handle, numbers), strict=True))
    except Exception as error:  # noqa: BLE001 - NVMLError's subclasses are made at run time
        return partial(_fail, error)

    def read_s(number: int) -> float:
        field = fields[number]
        if field.nvmlReturn:
            raise nvml.NVMLError(field.nvmlReturn)
        if field.valueType not in _COUNTER_TYPES:
            raise UnreadableError("not_supported")
        return _seconds(getattr(field.value, _COUNTER_TYPES[field.valueType]))

    return read_s


def _list_ways(
    nvml: Any, handle: Any, numbering: _ThermalFields | None
) -> dict[str, tuple[_Way, ...]]:
    """Return by cause the ways to read it, the best first."""

    def field_or_policy(number: int, policy: int) -> tuple[_Way, ...]:
        return (
            lambda fields: fields(number),
            lambda _: _seconds(nvml.nvmlDeviceGetViolationStatus(handle, policy).violationTime),
        )

    heat = field_or_policy(_THERMAL_FIELD, _THERMAL_POLICY)
    brake: tuple[_Way, ...] = (_refuse,)
    if numbering is not None:
        software, hardware, brake_field = numbering
        # Software's and hardware's time added up: at most twice the true time.
        heat = (lambda fields: fields(software) + fields(hardware), *heat)
        brake = (lambda fields: fields(brake_field),)
    others = {cause: field_or_policy(*numbers) for cause, numbers in _OTHER_CAUSES.items()}
    power_cap = field_or_policy(_POWER_FIELD, _POWER_POLICY)
    return {"power_cap": power_cap, "thermal": heat, "brake": brake, **others}


def _choose_way(candidates: tuple[_Way, ...], fields: _Fields) -> _Way:
    for way in candidates:
        try:
            way(fields)
        except Exception:  # noqa: BLE001, S112 - NVMLError's subclasses are made at run time
            continue
        return way
    return candidates[0]


def _fail(error: Exception, _: int) -> float:
    raise error


def _refuse(_: _Fields) -> float:
    raise UnreadableError("not_supported")


def _seconds(nanoseconds: int) -> float:
    if nanoseconds == _UNKNOWN:
        raise UnreadableError("not_supported")
    return nanoseconds * _S_PER_NS
