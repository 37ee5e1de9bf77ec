"""Which card CUDA means by an index."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.device.nvml.cards import Card
from advisor.device.nvml.visible import Resolution, resolve_cuda_index

A = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
B = "GPU-8932aaaa-d72c-4106-c12f-20bd9faed9f6"
C = "GPU-02078a8e-d72c-4106-c12f-20bd9faed9f6"
M, N = "MIG-11111111-0000-0000-0000-000000000000", "MIG-22222222-0000-0000-0000-000000000000"
OLD = "MIG-GPU-02078a8e-d72c-4106-c12f-20bd9faed9f6/1/0"

SAME = tuple(Card(uuid=uuid, name="X") for uuid in (A, B, C))
MIXED = (Card(uuid=A, name="X"), Card(uuid=C, name="Y"))
NO_DEVICE = Resolution(None, "no_device")


def resolve(index, cards, visible=None, order=None):
    return resolve_cuda_index(index, cards, visible_devices=visible, device_order=order)


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        (None, [A, B, C]),
        ("0,1,2", [A, B, C]),
        ("2,0", [C, A]),
        (" 2 , 0 ", [C, A]),
        ("1", [B]),
        ("", []),
        ("-1", []),
        ("1,-1,0", [B]),
        ("1,7,0", [B]),
        ("1,x,0", [B]),
        ("1gpu,0", [B, A]),
        ("1,1", []),
        ("0,1,0", []),
        ("1,GPU-02078a8e", [B]),
        (A, [A]),
        (f"{C},{A}", [C, A]),
        ("GPU-02", [C]),
        ("GPU-8932f,GPU-0", [A, C]),
        ("GPU-8932", []),
        ("GPU-8932f,GPU-8932,GPU-0", [A]),
        ("GPU-ffffffff", []),
        (f"{C},1", [C]),
        ("GPU-02,GPU-02078a8e", []),
        (f"{C},", [C]),
        ("MIG-11111111", []),
    ],
)
def test_the_list_is_read_as_cuda_reads_it(visible, seen):
    expected = [*map(Resolution, seen), NO_DEVICE]
    assert [resolve(index, SAME, visible) for index in range(len(seen) + 1)] == expected


@pytest.mark.parametrize("order", [None, "FASTEST_FIRST", "", "anything"])
@pytest.mark.parametrize("visible", [None, "0", "1,0"])
def test_numbers_among_cards_of_several_kinds_are_not_guessed(visible, order):
    assert resolve(0, MIXED, visible, order) == Resolution(None, "ambiguous_order")


def test_numbers_in_the_order_of_the_bus_are_those_of_nvml():
    assert resolve(1, MIXED, None, "PCI_BUS_ID") == Resolution(C)
    assert resolve(0, MIXED, "1", "PCI_BUS_ID") == Resolution(C)


def test_a_uuid_needs_no_order():
    assert resolve(0, MIXED, C) == Resolution(C)


def test_a_machine_without_cards_has_no_device():
    assert resolve(0, ()) == NO_DEVICE
    assert resolve(-1, SAME) == NO_DEVICE


def cut(*instances):
    return Card(uuid=C, name="X", is_mig=True, instances=instances)


@pytest.mark.parametrize(
    ("cards", "visible", "resolution"),
    [
        ((cut(M),), None, Resolution(M)),
        ((cut(M, N),), None, Resolution(None, "mig")),
        ((SAME[0], cut(M)), None, Resolution(M)),
        ((cut(),), None, NO_DEVICE),
        ((SAME[0], cut()), None, Resolution(A)),
        ((cut(M, N),), N, Resolution(N)),
        ((cut(M, N),), "MIG-2", Resolution(N)),
        ((cut(M, N),), "MIG-", NO_DEVICE),
        ((cut(M, N),), f"{M},{M}", NO_DEVICE),
        ((cut(M),), C, Resolution(M)),
        ((cut(M, N),), C, Resolution(None, "mig")),
        ((cut(M, N),), "0", Resolution(None, "mig")),
        ((cut(M),), "0", Resolution(M)),
        ((cut(OLD),), OLD, Resolution(OLD)),
        ((SAME[0], cut(M)), "0", Resolution(A)),
    ],
)
def test_of_several_instances_none_is_guessed(cards, visible, resolution):
    assert resolve(0, cards, visible) == resolution


def test_where_instances_exist_cuda_shows_one_alone():
    assert resolve(1, (SAME[0], cut(M))) == NO_DEVICE


@given(st.lists(st.sampled_from(["0", "1", "2", "3", "-1", A, B, "GPU-8932", "", "x"])))
def test_no_device_is_ever_meant_twice(entries):
    visible = ",".join(entries)
    uuids = [resolve(index, SAME, visible).uuid for index in range(4)]
    found = [uuid for uuid in uuids if uuid is not None]
    assert len(set(found)) == len(found)
    assert uuids[: len(found)] == found
