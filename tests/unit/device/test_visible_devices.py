"""Which card CUDA means by an index."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.device.counters import UnreadableError
from advisor.device.nvml.cards import Card
from advisor.device.nvml.visible import resolve_cuda_index

A = "GPU-8932f937-d72c-4106-c12f-20bd9faed9f6"
B = "GPU-8932aaaa-d72c-4106-c12f-20bd9faed9f6"
C = "GPU-02078a8e-d72c-4106-c12f-20bd9faed9f6"
M, N = "MIG-11111111-0000-0000-0000-000000000000", "MIG-22222222-0000-0000-0000-000000000000"
OLD = "MIG-GPU-02078a8e-d72c-4106-c12f-20bd9faed9f6/1/0"

SAME = tuple(Card(uuid=uuid, name="X") for uuid in (A, B, C))
MIXED = (Card(uuid=A, name="X"), Card(uuid=C, name="Y"))


def resolve(index, cards, visible=None, order=None):
    """Return the UUID, or the reason why it is not known."""
    try:
        variables = {"CUDA_VISIBLE_DEVICES": visible, "CUDA_DEVICE_ORDER": order}
        known = {name: text for name, text in variables.items() if text is not None}
        return resolve_cuda_index(index, cards, known)
    except UnreadableError as error:
        return str(error)


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
    expected = [*seen, "no_device"]
    assert [resolve(index, SAME, visible) for index in range(len(seen) + 1)] == expected


@pytest.mark.parametrize("order", [None, "FASTEST_FIRST", "", "anything"])
@pytest.mark.parametrize("visible", [None, "0", "1,0"])
def test_numbers_among_cards_of_several_kinds_are_not_guessed(visible, order):
    assert resolve(0, MIXED, visible, order) == "ambiguous_order"


def test_numbers_in_the_order_of_the_bus_are_those_of_nvml():
    assert resolve(1, MIXED, None, "PCI_BUS_ID") == C
    assert resolve(0, MIXED, "1", "PCI_BUS_ID") == C


def test_a_uuid_needs_no_order():
    assert resolve(0, MIXED, C) == C


def test_a_machine_without_cards_has_no_device():
    assert resolve(0, ()) == "no_device"
    assert resolve(-1, SAME) == "no_device"


def cut(*instances):
    return Card(uuid=C, name="X", instances=instances)


@pytest.mark.parametrize(
    ("cards", "visible", "resolution"),
    [
        ((cut(M),), None, M),
        ((cut(M, N),), None, "mig"),
        ((SAME[0], cut(M)), None, M),
        ((cut(),), None, "no_device"),
        ((SAME[0], cut()), None, A),
        ((cut(M, N),), N, N),
        ((cut(M, N),), "MIG-2", N),
        ((cut(M, N),), "MIG-", "no_device"),
        ((cut(M, N),), f"{M},{M}", "no_device"),
        ((cut(M),), C, M),
        ((cut(M, N),), C, "mig"),
        ((cut(M, N),), "0", "mig"),
        ((cut(M),), "0", M),
        ((cut(OLD),), OLD, OLD),
        ((SAME[0], cut(M)), "0", A),
    ],
)
def test_of_several_instances_none_is_guessed(cards, visible, resolution):
    assert resolve(0, cards, visible) == resolution


def test_where_instances_exist_cuda_shows_one_alone():
    assert resolve(1, (SAME[0], cut(M))) == "no_device"


@given(st.lists(st.sampled_from(["0", "1", "2", "3", "-1", A, B, "GPU-8932", "", "x"])))
def test_no_device_is_ever_meant_twice(entries):
    visible = ",".join(entries)
    uuids = [resolve(index, SAME, visible) for index in range(4)]
    found = [uuid for uuid in uuids if uuid != "no_device"]
    assert len(set(found)) == len(found)
    assert uuids[: len(found)] == found
