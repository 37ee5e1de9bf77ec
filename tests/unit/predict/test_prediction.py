import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.device.catalogue import CONTEXT_BYTES, describe_stated_gpu, find_gpu
from advisor.predict.data import CardsAsked
from advisor.predict.prediction import (
    ERROR_FRACTION,
    GPU_HEADROOM_BYTES,
    choose_next_size,
    predict_cards,
    predict_on,
)
from tests.unit.predict.sample_trace import MIB, build_case, build_trace

GIB = 2**30
CARD = describe_stated_gpu(4 * GIB)


def ends(estimate):
    return estimate.low, estimate.point, estimate.high


@settings(max_examples=30)
@given(
    memory=st.integers(256 * MIB, 32 * GIB),
    size=st.one_of(st.none(), st.integers(1, 5000)),
    parameter=st.integers(1, 512 * MIB),
    activation=st.integers(0, 16 * MIB),
)
def test_every_interval_holds_its_point_and_is_in_order(memory, size, parameter, activation):
    trace = build_trace(parameter_bytes=parameter, activation_bytes=activation)
    case = build_case(traces=(trace,), micro_batch_size=size)
    one = predict_on(describe_stated_gpu(memory), case)
    assert ends(one.max_micro_batch_size) == tuple(sorted(ends(one.max_micro_batch_size)))
    if one.micro_batch_size is None:
        assert one.max_micro_batch_size.point == 0
        return
    for estimate in (one.allocated_bytes, one.reserved_bytes, one.device_used_bytes):
        assert ends(estimate) == tuple(sorted(ends(estimate)))
    assert one.allocated_bytes.point <= one.reserved_bytes.point <= one.device_used_bytes.point
    assert sum(share.size_bytes for share in one.breakdown) == one.device_used_bytes.point


@pytest.mark.parametrize("name", ["T4", "RTX 4090", "H200"])
def test_the_ends_of_the_largest_size_are_those_of_device_used(name):
    gpu = find_gpu(name)
    one = predict_on(gpu, build_case())
    room = gpu.usable_bytes - GPU_HEADROOM_BYTES
    low, point, high = (
        predict_on(gpu, build_case(micro_batch_size=int(size)))
        for size in ends(one.max_micro_batch_size)
    )
    assert point.device_used_bytes.point <= room
    # The size at the low end fits even where the prediction falls short by all it may.
    assert low.allocated_bytes.point * (1 + ERROR_FRACTION) + CONTEXT_BYTES[1] <= room
    assert high.allocated_bytes.point * (1 - ERROR_FRACTION) + CONTEXT_BYTES[0] <= room


def test_a_size_fits_surely_not_or_perhaps():
    low, _, high = (int(end) for end in ends(predict_on(CARD, build_case()).max_micro_batch_size))
    verdicts = [
        predict_on(CARD, build_case(micro_batch_size=size)).fits
        for size in (low, low + 1, high, high + 1)
    ]
    assert verdicts == [True, None, None, False]


def test_headroom_lowers_the_largest_size_and_is_the_users_where_memory_was_stated():
    plain = predict_on(CARD, build_case())
    kept = predict_on(CARD, build_case(headroom_bytes=GIB))
    assert plain.headroom_bytes == 0
    assert kept.capacity_bytes == plain.capacity_bytes - GIB
    assert kept.max_micro_batch_size.point < plain.max_micro_batch_size.point
    assert predict_on(find_gpu("T4"), build_case()).headroom_bytes == GPU_HEADROOM_BYTES


def test_memory_the_dataset_or_the_cap_ends_the_sizes():
    plain = predict_on(CARD, build_case())
    few = predict_on(CARD, build_case(ceiling=100, ceiling_by="dataset"))
    capped = predict_on(CARD, build_case(ceiling=64))
    assert (plain.limited_by, few.limited_by, capped.limited_by) == ("memory", "dataset", "cap")
    assert ends(few.max_micro_batch_size) == (100, 100, 100)
    assert ends(capped.max_micro_batch_size) == (64, 64, 64)


def test_only_multiples_are_named():
    plain, by_32 = (
        predict_on(CARD, build_case(batch_multiple=multiple)).max_micro_batch_size
        for multiple in (1, 32)
    )
    assert ends(by_32) == tuple(size // 32 * 32 for size in ends(plain))
    few = predict_on(CARD, build_case(batch_multiple=32, ceiling=100, ceiling_by="dataset"))
    assert (few.max_micro_batch_size.point, few.limited_by) == (96, "dataset")


def test_below_the_smallest_size_that_runs_nothing_fits():
    card = describe_stated_gpu(512 * MIB)
    one = predict_on(card, build_case())
    assert ends(one.max_micro_batch_size) == (0, 0, 0)
    assert one.micro_batch_size is None
    assert one.device_used_bytes is None
    two = predict_on(CARD, build_case(ceiling=1, smallest=2))
    assert two.max_micro_batch_size.point == 0


def test_a_size_that_does_not_fit_still_has_its_figures():
    one = predict_on(CARD, build_case(micro_batch_size=4000))
    assert one.fits is False
    assert one.device_used_bytes.point > CARD.memory_bytes


def test_expandable_segments_reserve_no_more():
    plain, expandable = (
        predict_on(CARD, build_case(micro_batch_size=100, expandable_segments=is_on))
        for is_on in (False, True)
    )
    assert expandable.reserved_bytes.point <= plain.reserved_bytes.point


def test_nothing_traced_is_nothing_predicted():
    assert predict_cards(build_case(traces=())) == ()


def test_cards_come_in_the_order_asked_for():
    asked = CardsAsked(gpus=("T4", "L4"), gpu_memory_bytes=(4 * GIB,))
    names = [one.gpu for one in predict_cards(build_case(asked=asked))]
    assert names == ["T4", "L4", "GPU of 4 GiB"]


def test_traces_of_single_sizes_answer_like_the_symbolic_one():
    symbolic = predict_on(CARD, build_case())
    sizes = [3, 6]
    for _ in range(4):
        traces = tuple(build_trace(method="per_size", size=size) for size in sizes)
        case = build_case(traces=traces)
        following = choose_next_size(case)
        if following is None:
            break
        sizes.append(following)
    one = predict_on(CARD, case)
    assert one.max_micro_batch_size.point == pytest.approx(
        symbolic.max_micro_batch_size.point, rel=0.03
    )
    assert one.device_used_bytes.point == pytest.approx(symbolic.device_used_bytes.point, rel=0.05)


def test_the_second_trace_is_twice_the_first_and_a_symbolic_one_needs_no_second():
    single = build_trace(method="per_size", size=4)
    assert choose_next_size(build_case()) is None
    assert choose_next_size(build_case(traces=(single,))) == 8
    few = build_case(traces=(single,), ceiling=4)
    assert choose_next_size(few) is None
    pair = (single, build_trace(method="per_size", size=8))
    asked = build_case(traces=pair, micro_batch_size=77)
    assert choose_next_size(asked) == 77


def test_a_real_run_is_only_doubled():
    pair = tuple(build_trace(method="measured", size=size) for size in (4, 8))
    assert choose_next_size(build_case(traces=pair)) is None


def test_one_trace_of_a_single_size_vouches_for_no_larger_one():
    case = build_case(traces=(build_trace(method="per_size", size=4),))
    one = predict_on(CARD, case)
    assert one.max_micro_batch_size.point == 4
    tiny = predict_on(describe_stated_gpu(600 * MIB), case)
    assert tiny.max_micro_batch_size.point == 0


def test_constant_memory_is_limited_by_the_cap():
    flat = tuple(build_trace(method="per_size", size=size, activation_bytes=0) for size in (4, 8))
    blocks = tuple(msgspec.structs.replace(b, bytes_per_sample=0) for b in flat[0].blocks)
    flat = tuple(msgspec.structs.replace(trace, blocks=blocks) for trace in flat)
    one = predict_on(CARD, build_case(traces=flat, ceiling=512))
    assert (one.max_micro_batch_size.point, one.limited_by) == (512, "cap")


def test_real_runs_that_agree_on_a_line_serve_every_size():
    measured = msgspec.structs.replace(build_trace(), method="measured")
    case = build_case(traces=(measured,))
    assert choose_next_size(case) is None
    assert predict_on(CARD, case) == predict_on(CARD, build_case())


def test_parts_and_bound_are_left_out_where_the_size_was_not_traced():
    pair = tuple(build_trace(method="per_size", size=size) for size in (4, 8))
    card = find_gpu("T4")
    between = predict_on(card, build_case(traces=pair, micro_batch_size=6))
    assert (between.breakdown, between.bound) == ((), None)
    at_one = predict_on(card, build_case(traces=pair, micro_batch_size=8))
    assert at_one.breakdown
    assert at_one.bound is not None
