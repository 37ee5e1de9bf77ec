"""Which card CUDA means by an index: a matter of two environment variables and of MIG."""

from collections.abc import Sequence
from typing import NamedTuple

from advisor.device.nvml.cards import Card

_BUS_ORDER = "PCI_BUS_ID"
_UUID_PREFIXES = ("GPU-", "MIG-")


class Resolution(NamedTuple):
    """The UUID of a card or of a MIG instance, or the reason why it is not known."""

    uuid: str | None = None
    missing_because: str | None = None


def resolve_cuda_index(
    index: int,
    cards: Sequence[Card],
    *,
    visible_devices: str | None,
    device_order: str | None,
) -> Resolution:
    """Return what CUDA calls device `index`.

    A list by number counts in CUDA's own order, fastest first unless the variable says otherwise;
    with cards of several kinds that order is CUDA's secret (`ambiguous_order`). As in CUDA, the
    list ends before an entry that means no device, and one that names a device twice is empty.
    Where several MIG instances could be meant the reason is `mig`.

    Args:
        index: Number of the device among the visible ones.
        cards: All cards, in NVML's order, which is that of the bus.
        visible_devices: CUDA_VISIBLE_DEVICES, None where it is not set.
        device_order: CUDA_DEVICE_ORDER, None where it is not set.
    """
    if visible_devices is not None and visible_devices.strip().startswith(_UUID_PREFIXES):
        return _pick(index, _list_by_uuid(visible_devices, cards))
    if device_order != _BUS_ORDER and len({card.name for card in cards}) > 1:
        return Resolution(missing_because="ambiguous_order")
    if visible_devices is not None:
        return _pick(index, _list_by_number(visible_devices, cards))
    instances = [uuid for card in cards for uuid in card.instances]
    if instances:  # CUDA then shows one instance, and no whole card
        return _choose_instance(instances) if index == 0 else Resolution(None, "no_device")
    return _pick(index, [_settle(card) for card in cards if not card.is_mig])


def _pick(index: int, visible: Sequence[Resolution]) -> Resolution:
    return visible[index] if 0 <= index < len(visible) else Resolution(None, "no_device")


def _list_by_number(text: str, cards: Sequence[Card]) -> list[Resolution]:
    numbers: list[int] = []
    for entry in text.split(","):
        number = _leading_number(entry)
        if number is None or number >= len(cards):
            break
        numbers.append(number)
    if len(set(numbers)) < len(numbers):
        return []
    return [_settle(cards[number]) for number in numbers]


def _leading_number(entry: str) -> int | None:
    """Return the number that the entry begins with, as CUDA reads it: `1gpu` is 1."""
    entry = entry.strip()
    digits = entry[: len(entry) - len(entry.lstrip("0123456789"))]
    return int(digits) if digits else None


def _list_by_uuid(text: str, cards: Sequence[Card]) -> list[Resolution]:
    by_uuid = {uuid: Resolution(uuid) for card in cards for uuid in card.instances}
    by_uuid |= {card.uuid: _settle(card) for card in cards}
    uuids: list[str] = []
    for entry in text.split(","):
        matches = _match(entry.strip(), by_uuid)
        if len(matches) != 1:
            break
        uuids.extend(matches)
    if len(set(uuids)) < len(uuids):
        return []
    return [by_uuid[uuid] for uuid in uuids]


def _match(entry: str, uuids: dict[str, Resolution]) -> list[str]:
    """Return the UUIDs that the entry means: it may be cut short as long as it is unique."""
    if not entry.startswith(_UUID_PREFIXES):
        return []
    return [uuid for uuid in uuids if uuid.startswith(entry)]


def _settle(card: Card) -> Resolution:
    return _choose_instance(card.instances) if card.is_mig else Resolution(card.uuid)


def _choose_instance(instances: Sequence[str]) -> Resolution:
    if len(instances) == 1:
        return Resolution(instances[0])
    return Resolution(missing_because="mig" if instances else "no_device")
