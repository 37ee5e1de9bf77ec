"""Which card CUDA computes on: by its UUID, else a matter of two environment variables and MIG."""

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from advisor.device.counters import UnreadableError
from advisor.device.nvml.cards import Card, hash_uuid, list_cards

_UUID_PREFIXES = ("GPU-", "MIG-")

#: What one place of CUDA's list may be: one UUID, or those of all instances of a card.
_Devices = tuple[str, ...]


class Found(NamedTuple):
    """A device; of an instance (`is_mig`) most counters belong to the card."""

    handle: Any  #: None where it is not known which instance.
    is_mig: bool


def find_gpu(nvml: Any, uuid_hash: str | None, index: int = 0) -> Found:
    """Return the device of that UUID; by CUDA's index only where CUDA told no UUID.

    Raises:
        UnreadableError: No such device, or it is not sure which.
    """
    cards = tuple(list_cards(nvml))
    uuid = resolve_cuda_index(index, cards) if uuid_hash is None else _find_uuid(cards, uuid_hash)
    card = next((card for card in cards if card.uuid == uuid), None)
    if card is None or card.instances is None:
        return Found(nvml.nvmlDeviceGetHandleByUUID(uuid), is_mig=card is None)
    instance = _find_instance(card.instances, cards, index)  # CUDA told the card alone
    return Found(nvml.nvmlDeviceGetHandleByUUID(instance) if instance else None, is_mig=True)


def _find_uuid(cards: Sequence[Card], uuid_hash: str) -> str:
    for card in cards:
        for uuid in (card.uuid, *card.devices):
            if hash_uuid(uuid) == uuid_hash:
                return uuid
    is_cut = any(card.instances is not None for card in cards)
    raise UnreadableError("mig" if is_cut else "no_device")


def _find_instance(instances: Sequence[str], cards: Sequence[Card], index: int) -> str | None:
    with suppress(UnreadableError):
        uuid = resolve_cuda_index(index, cards)
        if uuid in instances:
            return uuid
    return instances[0] if len(instances) == 1 else None


def resolve_cuda_index(
    index: int, cards: Sequence[Card], environment: Mapping[str, str] = os.environ
) -> str:
    """Return the UUID of the card or the MIG instance that CUDA calls device `index`.

    A list by number counts in CUDA's own order, fastest first unless CUDA_DEVICE_ORDER says
    otherwise; with cards of several kinds that order is CUDA's secret. As in CUDA, the list ends
    before an entry that means no device, and one that names a device twice is empty.

    Args:
        index: Number of the device among the visible ones.
        cards: All cards, in NVML's order, which is that of the bus.
        environment: CUDA's variables are looked up here.

    Raises:
        UnreadableError: `no_device`, `ambiguous_order`, or `mig` where several instances could be
            meant.
    """
    visible = _list_visible(cards, environment)
    devices = visible[index] if 0 <= index < len(visible) else ()
    if len(devices) != 1:
        raise UnreadableError("mig" if devices else "no_device")
    return devices[0]


def _list_visible(cards: Sequence[Card], environment: Mapping[str, str]) -> list[_Devices]:
    text = environment.get("CUDA_VISIBLE_DEVICES")
    if text is not None and text.strip().startswith(_UUID_PREFIXES):
        return _list_by_uuid(text, cards)
    is_bus_order = environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    if not is_bus_order and len({card.name for card in cards}) > 1:
        raise UnreadableError("ambiguous_order")
    if text is not None:
        return _list_by_number(text, cards)
    instances = tuple(uuid for card in cards for uuid in card.instances or ())
    if instances:  # CUDA then shows one instance, and no whole card
        return [instances]
    return [card.devices for card in cards if card.instances is None]


def _list_by_number(text: str, cards: Sequence[Card]) -> list[_Devices]:
    numbers: list[int] = []
    for entry in text.split(","):
        number = re.match(r"\s*([0-9]+)", entry)  # as CUDA reads it: `1gpu` is 1
        if number is None or int(number[1]) >= len(cards):
            break
        numbers.append(int(number[1]))
    return [cards[number].devices for number in numbers] if _are_unique(numbers) else []


def _list_by_uuid(text: str, cards: Sequence[Card]) -> list[_Devices]:
    by_uuid: dict[str, _Devices]
    by_uuid = {uuid: (uuid,) for card in cards for uuid in card.instances or ()}
    by_uuid |= {card.uuid: card.devices for card in cards}
    uuids: list[str] = []
    for entry in map(str.strip, text.split(",")):
        # An entry may be cut short as long as it is unique.
        matches = [uuid for uuid in by_uuid if uuid.startswith(entry)]
        if len(matches) != 1 or not entry.startswith(_UUID_PREFIXES):
            break
        uuids += matches
    return [by_uuid[uuid] for uuid in uuids] if _are_unique(uuids) else []


def _are_unique(entries: Sequence[object]) -> bool:
    return len(set(entries)) == len(entries)
