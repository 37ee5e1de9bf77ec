import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.predict.memory_trace import AffinePiece, PredictedMemory, TraceBlock
from advisor.predict.pieces import derive_pieces, predict_bytes
from advisor.predict.savings import (
    Effect,
    choose_remedies,
    count_more_flops,
    find_largest,
    fit_capacity,
    is_optimizer_decisive,
    with_8bit_state,
)
from tests.unit.predict.sample_trace import MIB, build_trace

BASE = Effect(max_micro_batch_size=100, peak_bytes=1000)


def judge(*effects, base=BASE):
    return choose_remedies(base, [("bf16", effect) for effect in effects])


def effect(largest, peak, **changed):
    return Effect(max_micro_batch_size=largest, peak_bytes=peak, **changed)


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
        (effect(None, 900), False),
    ],
)
def test_a_remedy_is_shown_where_it_gains_a_percent_and_loses_none(changed, helps):
    assert bool(judge(changed)) == helps


def test_where_nothing_fits_one_sample_is_a_gain():
    (remedy,) = judge(effect(1, 1000), base=effect(0, 1000))
    assert remedy.max_micro_batch_size == 1


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
        max(predict_bytes(derive_pieces(each), size)) for each in (trace, with_8bit_state(trace))
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
    unusable_bytes=st.integers(0, 100),
)


@given(memory=memories, capacity=st.integers(0, 5000), cap=st.one_of(st.none(), st.integers(0, 50)))
def test_the_largest_size_fits_and_the_next_one_does_not(memory, capacity, cap):
    largest = find_largest(memory, capacity_bytes=capacity, at_most=cap)
    room = capacity - memory.unusable_bytes
    if largest:
        assert max(predict_bytes(memory, largest)) <= room
    if largest < (1 << 20 if cap is None else cap):
        assert max(predict_bytes(memory, largest + 1)) > room


@given(largest=st.integers(1, 50), above=st.integers(1, 5), capacity=st.integers(0, 5000))
def test_the_fitted_capacity_ends_where_the_run_did(largest, above, capacity):
    memory = PredictedMemory(
        operators="cpu",
        forward_backward=(AffinePiece(50, 7),),
        optimizer=(AffinePiece(40, 0),),
        unusable_bytes=3,
    )
    fitted = fit_capacity(
        memory, capacity_bytes=capacity, largest=largest, next_size=largest + above
    )
    found = find_largest(memory, capacity_bytes=fitted, at_most=None)
    assert largest <= found < largest + above
    real = find_largest(memory, capacity_bytes=capacity, at_most=None)
    if largest <= real < largest + above:
        assert fitted == capacity


def test_the_optimizer_decides_only_where_its_peak_is_the_higher_one():
    memory = derive_pieces(build_trace())
    assert is_optimizer_decisive(memory, (1,))
    assert not is_optimizer_decisive(memory, (64, 128))
    assert is_optimizer_decisive(memory, (64, 1))
