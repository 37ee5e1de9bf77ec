"""The cards of the machine as NVML lists them, and one of them opened."""

import hashlib
from collections.abc import Iterator
from typing import Any

import msgspec

#: Hex digits of a UUID's hash that a record keeps: enough to tell cards apart, too few to name one.
_HASH_DIGITS = 12


class Card(msgspec.Struct, frozen=True, kw_only=True):
    """One card.

    Attributes:
        uuid: As NVML writes it, `GPU-…`.
        name: Marketing name.
        is_mig: Whether it is cut into MIG instances.
        instances: UUIDs of these, `MIG-…`.
    """

    uuid: str
    name: str
    is_mig: bool = False
    instances: tuple[str, ...] = ()


def hash_uuid(uuid: str) -> str:
    """Return the hash by which a record names a device.

    The prefix does not count: torch gives the bare UUID, of a MIG instance too, while NVML writes
    `GPU-` or `MIG-` before it.
    """
    bare = uuid.removeprefix("GPU-").removeprefix("MIG-")
    return hashlib.sha256(f"GPU-{bare}".encode()).hexdigest()[:_HASH_DIGITS]


def list_cards(nvml: Any) -> tuple[Card, ...]:
    """Return the cards in NVML's order; those that cannot be asked for are left out."""
    return tuple(card for index in range(nvml.nvmlDeviceGetCount()) for card in _card(nvml, index))


def _card(nvml: Any, index: int) -> Iterator[Card]:
    try:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
        uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
    except nvml.NVMLError:  # a container may list cards that it may not touch
        return
    is_mig = _is_mig(nvml, handle)
    yield Card(
        uuid=uuid,
        name=name,
        is_mig=is_mig,
        instances=tuple(_instances(nvml, handle)) if is_mig else (),
    )


def _is_mig(nvml: Any, handle: Any) -> bool:
    try:
        current, _ = nvml.nvmlDeviceGetMigMode(handle)
    except nvml.NVMLError:  # the card or the driver is older than MIG
        return False
    return bool(current)


def _instances(nvml: Any, handle: Any) -> Iterator[str]:
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            yield nvml.nvmlDeviceGetUUID(instance)
        except nvml.NVMLError:  # an unused place
            continue
