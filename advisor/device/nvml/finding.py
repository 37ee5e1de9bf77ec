"""The NVML device that CUDA computes on."""

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from advisor.device.nvml.cards import Card, hash_uuid, list_cards
from advisor.device.nvml.library import UnreadableError
from advisor.device.nvml.visible import Resolution, resolve_cuda_index


class Found(NamedTuple):
    """A device.

    Attributes:
        handle: Of the card or the MIG instance; None where it is not known which instance.
        is_mig: Whether it is an instance, so that most counters belong to the card.
    """

    handle: Any
    is_mig: bool


def find_gpu(nvml: Any, uuid_hash: str | None, index: int = 0) -> Found:
    """Return the device of that UUID; by its index only where CUDA told no UUID.

    Args:
        nvml: pynvml, opened.
        uuid_hash: As `hash_uuid` gives it.
        index: CUDA's index of the device.

    Raises:
        UnreadableError: No such device, or it is not sure which.
    """
    cards = list_cards(nvml)
    uuid = _find_uuid(cards, uuid_hash, index)
    card = next((card for card in cards if card.uuid == uuid), None)
    if card is not None and card.is_mig:  # CUDA told the card, not the instance
        instance = _find_instance(card, cards, index)
        handle = nvml.nvmlDeviceGetHandleByUUID(instance) if instance else None
        return Found(handle, is_mig=True)
    return Found(nvml.nvmlDeviceGetHandleByUUID(uuid), is_mig=card is None)


def _find_uuid(cards: Sequence[Card], uuid_hash: str | None, index: int) -> str:
    if uuid_hash is None:
        resolution = _resolve(cards, index)
        if resolution.uuid is None:
            raise UnreadableError(resolution.missing_because or "no_device")
        return resolution.uuid
    for card in cards:
        for uuid in (card.uuid, *card.instances):
            if hash_uuid(uuid) == uuid_hash:
                return uuid
    raise UnreadableError("mig" if any(card.is_mig for card in cards) else "no_device")


def _find_instance(card: Card, cards: Sequence[Card], index: int) -> str | None:
    uuid = _resolve(cards, index).uuid
    if uuid in card.instances:
        return uuid
    return card.instances[0] if len(card.instances) == 1 else None


def _resolve(cards: Sequence[Card], index: int) -> Resolution:
    return resolve_cuda_index(
        index,
        cards,
        visible_devices=os.environ.get("CUDA_VISIBLE_DEVICES"),
        device_order=os.environ.get("CUDA_DEVICE_ORDER"),
    )
