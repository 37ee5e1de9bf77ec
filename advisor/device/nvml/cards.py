"""The driver's library, of which any function may be missing, and the cards that it lists."""

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from advisor.device.counters import UnreadableError, name_reason

#: Hex digits of a UUID's hash that a record keeps: enough to tell cards apart, too few to name one.
_HASH_DIGITS = 12


@contextmanager
def opened_library() -> Iterator[Any]:
    """Open NVML and yield pynvml."""
    import pynvml  # noqa: PLC0415 - loads the driver's library

    pynvml.nvmlInit()
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def driver_version() -> str | None:
    """Return the driver's version, None where there is no driver."""
    with suppress(Exception), opened_library() as nvml:  # no driver is an answer here
        return str(nvml.nvmlSystemGetDriverVersion())
    return None


def read_first(*reads: Callable[[], Any]) -> Any:
    """Return what the first of several ways yields that works; the last one's error if none does.

    Functions come and go with the driver and with pynvml.
    """
    for read in reads[:-1]:
        try:
            return read()
        except Exception as error:
            if name_reason(error) != "not_supported":
                raise
    return reads[-1]()


class Device(NamedTuple):
    """A card, or an instance of one (`is_mig`): then most counters belong to the card."""

    handle: Any  #: None where it is not known which instance.
    is_mig: bool


def hash_uuid(uuid: str) -> str:
    """Return the hash by which a record names a device.

    The prefix does not count: torch gives the bare UUID, of a MIG instance too, while NVML writes
    `GPU-` or `MIG-` before it.
    """
    bare = uuid.removeprefix("GPU-").removeprefix("MIG-")
    return hashlib.sha256(f"GPU-{bare}".encode()).hexdigest()[:_HASH_DIGITS]


def find_device(nvml: Any, uuid_hash: str | None) -> Device:
    """Return the device of that UUID.

    Raises:
        UnreadableError: There is none (`no_device`), or it may be an instance that cannot be asked
            for (`mig`).
    """
    is_cut = False
    for uuid, instances in _list_cards(nvml):
        if hash_uuid(uuid) == uuid_hash:
            meant = [uuid] if instances is None else instances
            return _open(nvml, meant, is_mig=instances is not None)
        own = [instance for instance in instances or () if hash_uuid(instance) == uuid_hash]
        if own:
            return _open(nvml, own, is_mig=True)
        is_cut |= instances is not None
    raise UnreadableError("mig" if is_cut else "no_device")


def _open(nvml: Any, uuids: list[str], *, is_mig: bool) -> Device:
    """Return the one device of several that CUDA shows; of a card cut up it may tell the card."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES", "").partition(",")[0].strip()
    named = [uuid for uuid in uuids if shown.startswith("MIG-") and uuid.startswith(shown)]
    meant = named or uuids
    handle = nvml.nvmlDeviceGetHandleByUUID(meant[0]) if len(meant) == 1 else None
    return Device(handle, is_mig)


def _list_cards(nvml: Any) -> Iterator[tuple[str, list[str] | None]]:
    """Yield the UUIDs of cards and of their MIG instances, None for a card that is not cut."""
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = nvml.nvmlDeviceGetUUID(handle)
        except nvml.NVMLError:  # a container may list cards that it may not touch
            continue
        is_mig = False
        with suppress(nvml.NVMLError):  # the card or the driver is older than MIG
            is_mig, _ = nvml.nvmlDeviceGetMigMode(handle)
        yield uuid, list(_list_instances(nvml, handle)) if is_mig else None


def _list_instances(nvml: Any, handle: Any) -> Iterator[str]:
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with suppress(nvml.NVMLError):  # an unused place
            instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            yield nvml.nvmlDeviceGetUUID(instance)
