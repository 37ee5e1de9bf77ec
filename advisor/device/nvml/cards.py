"""The cards of the machine as NVML lists them."""

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
        instances: UUIDs of its MIG instances, `MIG-…`; None where it is not cut into any.
    """

    uuid: str
    name: str
    instances: tuple[str, ...] | None = None

    @property
    def devices(self) -> tuple[str, ...]:
        """What CUDA may mean by the card: itself, or any of its instances."""
        return (self.uuid,) if self.instances is None else self.instances


def hash_uuid(uuid: str) -> str:
    """Return the hash by which a record names a device.

    The prefix does not count: torch gives the bare UUID, of a MIG instance too, while NVML writes
    `GPU-` or `MIG-` before it.
    """
    bare = uuid.removeprefix("GPU-").removeprefix("MIG-")
    return hashlib.sha256(f"GPU-{bare}".encode()).hexdigest()[:_HASH_DIGITS]


def list_cards(nvml: Any) -> Iterator[Card]:
    """Yield the cards in NVML's order; those that cannot be asked for are left out."""
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
        except nvml.NVMLError:  # a container may list cards that it may not touch
            continue
        try:
            is_mig, _ = nvml.nvmlDeviceGetMigMode(handle)
        except nvml.NVMLError:  # the card or the driver is older than MIG
            is_mig = False
        instances = tuple(_list_instances(nvml, handle)) if is_mig else None
        yield Card(uuid=uuid, name=name, instances=instances)


def _list_instances(nvml: Any, handle: Any) -> Iterator[str]:
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        try:
            instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            yield nvml.nvmlDeviceGetUUID(instance)
        except nvml.NVMLError:  # an unused place
            continue
