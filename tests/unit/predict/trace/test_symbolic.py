import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.predict.memory_trace import PhaseMark, TraceBlock
from advisor.predict.trace.ledger import Ledger, SizeTrace
from advisor.predict.trace.symbolic import (
    StructureDiffersError,
    check_trace,
    conclude,
    merge_traces,
)


def make_trace(size, lines, *, flops=0):
    return SizeTrace(
        operators="cpu",
        method="per_size",
        traced_sizes=(size,),
        blocks=tuple(TraceBlock(fixed + slope * size, 0, "temporary", 0) for fixed, slope in lines),
        made_by=("aten.mm",) * len(lines),
        events=tuple(range(len(lines))),
        phases=(PhaseMark("setup", 0, 0),),
        modules=("",),
        flops_fixed=flops,
        flops_per_sample=0,
    )


@given(
    lines=st.lists(st.tuples(st.integers(0, 1 << 40), st.integers(0, 1 << 30)), max_size=5),
    sizes=st.lists(st.integers(1, 500), min_size=3, max_size=3, unique=True),
)
def test_lines_are_found_exactly_from_any_two_sizes(lines, sizes):
    first, second, third = (make_trace(size, lines, flops=6 * size) for size in sizes)
    merged = check_trace(merge_traces(first, second), third)
    assert [(b.fixed_bytes, b.bytes_per_sample) for b in merged.blocks] == lines
    assert (merged.flops_fixed, merged.flops_per_sample) == (0, 6)
    assert merged.traced_sizes == tuple(sizes)


def test_a_slope_that_is_no_whole_number_is_refused():
    with pytest.raises(StructureDiffersError, match="no whole number"):
        merge_traces(make_trace(3, [(1, 0)]), make_trace(5, [(2, 0)]))


def test_a_third_size_off_the_line_is_refused():
    merged = merge_traces(make_trace(3, [(9, 0)]), make_trace(5, [(25, 0)]))
    with pytest.raises(StructureDiffersError, match="a line through two sizes says 49"):
        check_trace(merged, make_trace(8, [(64, 0)]))


def test_other_events_are_refused_with_the_place():
    first = make_trace(3, [(4, 0), (4, 0)])
    more = msgspec.structs.replace(make_trace(5, [(4, 0), (4, 0)]), events=(0, -1, 1))
    with pytest.raises(
        StructureDiffersError, match=r"from event 1 on, where the result of aten\.mm"
    ):
        merge_traces(first, more)
    fewer = msgspec.structs.replace(make_trace(5, [(4, 0)]))
    with pytest.raises(StructureDiffersError, match=r"from event 1 on$"):
        merge_traces(first, fewer)


def test_another_operator_at_the_same_place_is_refused():
    second = msgspec.structs.replace(make_trace(5, [(4, 0)]), made_by=("",))
    with pytest.raises(StructureDiffersError, match="is a tensor"):
        merge_traces(make_trace(3, [(4, 0)]), second)


def test_operations_off_the_line_are_left_out_alone():
    merged = merge_traces(make_trace(3, [], flops=1), make_trace(5, [], flops=2))
    assert merged.flops_fixed is None
    merged = merge_traces(make_trace(3, [], flops=9), make_trace(5, [], flops=25))
    assert merged.flops_per_sample == 8
    assert check_trace(merged, make_trace(8, [], flops=64)).flops_per_sample is None


def test_one_size_has_no_slope():
    held = conclude(make_trace(4, [(1, 2)], flops=7), reason="asked for", method="per_size")
    assert (held.blocks[0].fixed_bytes, held.blocks[0].bytes_per_sample) == (9, 0)
    assert (held.flops_fixed, held.flops_per_sample, held.reason) == (7, 0, "asked for")


def finish(ledger):
    return ledger.finish(1, operators="cpu", modules=())


def test_blocks_freed_in_a_row_are_ordered_by_age_within_their_phase():
    ledger = Ledger()
    for _ in range(3):
        ledger.allocate(8, "", -1)
    ledger.free(2)
    ledger.free(0)
    ledger.begin("forward", 1)
    ledger.free(1)
    trace = finish(ledger)
    assert trace.events == (0, 1, 2, -1, -3, -2)
    assert trace.phases[1].first_event == 5


def test_an_allocation_taken_back_leaves_no_block():
    ledger = Ledger()
    ledger.allocate(8, "kept", -1)
    ledger.take_back(ledger.allocate(16, "gone", -1))
    ledger.allocate(32, "next", -1)
    trace = finish(ledger)
    assert trace.made_by == ("kept", "next")
    assert trace.events == (0, 1)


def test_only_what_is_alive_at_the_backward_pass_is_an_activation():
    ledger = Ledger()
    ledger.begin("forward", 1)
    kept, gone = ledger.allocate(8, "", -1), ledger.allocate(8, "", -1)
    ledger.free(gone)
    ledger.begin("backward", 1)
    ledger.allocate(8, "", -1)
    ledger.label(kept, "temporary")
    assert [block.category for block in finish(ledger).blocks] == [
        "activation",
        "temporary",
        "temporary",
    ]
