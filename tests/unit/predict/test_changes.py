import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.predict.changes import (
    add_8bit_state,
    compare_changes,
    count_more_flops,
    is_optimizer_decisive,
)
from advisor.predict.data import MOST_SAMPLES, PredictedMemory
from advisor.predict.law import AffinePiece
from advisor.predict.memory_trace import TraceBlock
from advisor.predict.pieces import derive_pieces
from tests.unit.predict.sample_trace import MIB, build_trace


def with_8bit_state(trace):
    (found,) = add_8bit_state((), trace)
    return found.trace


def judge(*effects, base=(100, 1000)):
    changed = [("bf16", *effect) for effect in effects]
    found = compare_changes(8, base, changed)
    assert (found.micro_batch_size, found.max_micro_batch_size, found.peak_bytes) == (8, *base)
    return found.savings


def effect(largest, peak, *, how_to="", more_flops_fraction=None):
    return (largest, peak), how_to, more_flops_fraction


@pytest.mark.parametrize(
    ("changed", "helps"),
    [
        (effect(101, 1000), True),
        (effect(100, 990), True),
        (effect(100, 1000), False),
        (effect(100, 991), False),
        (effect(99, 500), False),
        (effect(150, 1010), False),
        (effect(150, 1009), True),
        (effect(0, 900), False),
    ],
)
def test_a_change_is_shown_where_it_gains_a_percent_and_loses_none(changed, helps):
    assert bool(judge(changed)) == helps


def test_where_nothing_fits_one_sample_is_a_gain():
    (saving,) = judge(effect(1, 1000), base=(0, 1000))
    assert saving.max_micro_batch_size == 1


def test_the_largest_micro_batch_comes_first_and_then_the_lowest_peak():
    found = judge(effect(120, 900), effect(150, 950), effect(120, 800))
    assert [(one.max_micro_batch_size, one.peak_bytes) for one in found] == [
        (150, 950),
        (120, 800),
        (120, 900),
    ]


def test_more_arithmetic_is_named_where_there_is_some():
    (much,) = judge(effect(150, 900, more_flops_fraction=0.33, how_to="line"))
    (none,) = judge(effect(150, 900, more_flops_fraction=0.001))
    assert much.note.startswith("33 % more floating-point operations; ")
    assert much.how_to == "line"
    assert "operations" not in none.note


def test_more_arithmetic_is_a_share_of_the_step_without_the_change():
    base = build_trace()
    changed = msgspec.structs.replace(base, flops_fixed=10**9, flops_per_sample=10**9)
    assert count_more_flops(base, changed, 4) == pytest.approx(0.25)
    assert count_more_flops(base, msgspec.structs.replace(base, flops_fixed=None), 4) is None
    empty = msgspec.structs.replace(base, flops_fixed=0, flops_per_sample=0)
    assert count_more_flops(empty, changed, 4) is None


def test_large_states_take_a_quarter_and_their_scales():
    changed = with_8bit_state(build_trace(parameter_bytes=8 * MIB))
    state = changed.blocks[2]
    assert state.fixed_bytes == 4 * MIB + 4 * MIB // 64
    assert [b for i, b in enumerate(changed.blocks) if i != 2] == [
        b for i, b in enumerate(build_trace(parameter_bytes=8 * MIB).blocks) if i != 2
    ]


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (TraceBlock(4 * 4096, 0, "optimizer_state"), 4096 + 4 * 16),
        (TraceBlock(4 * 4097, 0, "optimizer_state"), 4097 + 4 * 17),
        (TraceBlock(4 * 4095, 0, "optimizer_state"), 4 * 4095),
        (TraceBlock(4 * 4096, 8, "optimizer_state"), 4 * 4096),
        (TraceBlock(4 * 4096, 0, "parameter"), 4 * 4096),
    ],
)
def test_what_is_small_or_no_state_keeps_its_size(block, expected):
    trace = msgspec.structs.replace(build_trace(), blocks=(block,), events=(0,))
    assert with_8bit_state(trace).blocks[0].fixed_bytes == expected


@given(size=st.integers(1, 500))
def test_8_bits_never_take_more_memory(size):
    trace = build_trace(parameter_bytes=MIB)
    before, after = (
        derive_pieces(each).law.predict_bytes(size) for each in (trace, with_8bit_state(trace))
    )
    assert after < before


pieces = st.lists(
    st.builds(AffinePiece, st.integers(0, 1000), st.integers(0, 50)), min_size=1, max_size=3
).map(tuple)
memories = st.builds(
    PredictedMemory,
    operators=st.just("cpu"),
    forward_backward=pieces,
    optimizer=pieces,
)


@given(memory=memories, capacity=st.integers(0, 5000))
def test_the_largest_size_fits_and_the_next_one_does_not(memory, capacity):
    largest = memory.predict_largest(capacity)
    if largest:
        assert memory.law.predict_bytes(largest) <= capacity
    if largest < MOST_SAMPLES:
        assert memory.law.predict_bytes(largest + 1) > capacity


def test_the_optimizer_decides_only_where_its_peak_is_the_higher_one():
    memory = derive_pieces(build_trace())
    assert is_optimizer_decisive(memory, (1,))
    assert not is_optimizer_decisive(memory, (64, 128))
    assert is_optimizer_decisive(memory, (64, 1))
