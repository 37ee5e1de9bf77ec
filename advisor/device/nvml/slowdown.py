"""How long the clock was held down, by cause, since the driver was loaded.

The power and policy counters have kept their numbers. Those of heat by hardware and of the power
brake have not: the driver's releases number them differently (570 has power smoothing there), and
pynvml knows one numbering, that of its own release. So the number is chosen by the driver, and the
answer must be of the counters' type.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from advisor.device.data import Counter
from advisor.device.nvml.library import UnreadableError, read_counter

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


class _Look(NamedTuple):
    """What one call for all fields gave: the fields by number, or the error."""

    fields: dict[int, Any]
    error: Exception | None = None


_Way = Callable[[_Look], float]


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
        cause: _choose_way(candidates, now)
        for cause, candidates in _list_ways(nvml, handle, numbering).items()
    }

    def read() -> tuple[Counter, ...]:
        look = _look(nvml, handle, numbers)
        return tuple(
            read_counter(f"{PREFIX}{cause}", "s", partial(way, look)) for cause, way in ways.items()
        )

    return read


def _choose_numbering(driver: str) -> _ThermalFields | None:
    parts = driver.split(".")[:2]
    if not all(part.isdecimal() for part in parts):
        return None
    version = tuple(map(int, parts))
    return next(fields for first, fields in _NUMBERINGS if version >= first)


def _look(nvml: Any, handle: Any, numbers: list[int]) -> _Look:
    try:
        values = nvml.nvmlDeviceGetFieldValues(handle, numbers)
    except Exception as error:  # noqa: BLE001 - NVMLError's subclasses are made at run time
        return _Look({}, error)
    return _Look(dict(zip(numbers, values, strict=True)))


def _list_ways(
    nvml: Any, handle: Any, numbering: _ThermalFields | None
) -> dict[str, tuple[_Way, ...]]:
    """Return by cause the ways to read it, the best first."""

    def field(number: int) -> _Way:
        return lambda look: _read_field_s(nvml, look, number)

    def policy(number: int) -> _Way:
        return lambda _: _read_policy_s(nvml, handle, number)

    def heat(look: _Look) -> float:
        """Return software's and hardware's time added up: at most twice the true time."""
        software, hardware, _ = numbering or (0, 0, 0)
        return _read_field_s(nvml, look, software) + _read_field_s(nvml, look, hardware)

    older_heat = (field(_THERMAL_FIELD), policy(_THERMAL_POLICY))
    return {
        "power_cap": (field(_POWER_FIELD), policy(_POWER_POLICY)),
        "thermal": (heat, *older_heat) if numbering else older_heat,
        "brake": (field(numbering.brake),) if numbering else (_refuse,),
        **{
            cause: (field(first), policy(second))
            for cause, (first, second) in _OTHER_CAUSES.items()
        },
    }


def _choose_way(candidates: tuple[_Way, ...], look: _Look) -> _Way:
    for way in candidates:
        try:
            way(look)
        except Exception:  # noqa: BLE001, S112 - NVMLError's subclasses are made at run time
            continue
        return way
    return candidates[0]


def _read_field_s(nvml: Any, look: _Look, number: int) -> float:
    if look.error is not None:
        raise look.error
    field = look.fields[number]
    if field.nvmlReturn:
        raise nvml.NVMLError(field.nvmlReturn)
    member = _COUNTER_TYPES.get(field.valueType)
    if member is None:
        raise UnreadableError("not_supported")
    return _seconds(getattr(field.value, member))


def _read_policy_s(nvml: Any, handle: Any, policy: int) -> float:
    return _seconds(nvml.nvmlDeviceGetViolationStatus(handle, policy).violationTime)


def _refuse(_: _Look) -> float:
    raise UnreadableError("not_supported")


def _seconds(nanoseconds: int) -> float:
    if nanoseconds == _UNKNOWN:
        raise UnreadableError("not_supported")
    return nanoseconds * _S_PER_NS
