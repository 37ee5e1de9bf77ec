from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.predict.breakdown import break_down
from advisor.predict.memory_trace import MemoryTrace, PhaseMark, TraceBlock
from tests.unit.predict.sample_trace import MIB, add_up, build_trace

NAMES = ("", "stem", "layers", "layers.0", "layers.0.a", "layers.1", "layers.1.a", "head")
CATEGORIES = ("parameter", "gradient", "optimizer_state", "activation", "input", "temporary")


@st.composite
def traces(draw):
    """Any order of allocations and frees over three phases, of which the setup may be empty."""
    count = draw(st.integers(1, 12))
    blocks = tuple(
        TraceBlock(
            draw(st.integers(-50, 100)),
            draw(st.integers(0, 20)),
            draw(st.sampled_from(CATEGORIES)),
            draw(st.integers(-1, len(NAMES) - 1)),
        )
        for _ in range(count)
    )
    events = list(range(count))
    for index in draw(st.sets(st.integers(0, count - 1))):
        events.insert(draw(st.integers(events.index(index) + 1, len(events))), -1 - index)
    marks = sorted(draw(st.tuples(*[st.integers(0, len(events))] * 2)))
    return MemoryTrace(
        operators="cpu",
        method="symbolic",
        traced_sizes=(3, 5),
        blocks=blocks,
        events=tuple(events),
        phases=(
            PhaseMark("setup", 0, 0),
            PhaseMark("forward", 1, marks[0]),
            PhaseMark("backward", 1, marks[1]),
        ),
        modules=NAMES,
    )


@given(trace=traces(), size=st.integers(1, 9))
def test_categories_and_modules_each_sum_to_the_peak_exactly(trace, size):
    found = break_down(trace, size)
    assert found.peak_bytes == add_up(trace, size)["all"]
    assert sum(found.bytes_by_category.values()) == found.peak_bytes
    assert sum(share.size_bytes for share in found.modules) == found.peak_bytes
    for share in found.modules:
        assert sum(share.bytes_by_category.values()) == share.size_bytes
        assert not share.parts or sum(p.size_bytes for p in share.parts) == share.size_bytes
        assert share.size_bytes > 0


@given(trace=traces(), size=st.integers(1, 9))
def test_all_that_is_ranked_is_in_descending_order(trace, size):
    found = break_down(trace, size)
    rankings = [list(found.bytes_by_category.values()), [one.size_bytes for one in found.modules]]
    for share in found.modules:
        rankings += [list(share.bytes_by_category.values()), [p.size_bytes for p in share.parts]]
    assert all(each == sorted(each, reverse=True) for each in rankings)


@given(trace=traces(), size=st.integers(1, 9))
def test_the_timeline_is_without_gaps_and_holds_the_peak(trace, size):
    found = break_down(trace, size)
    levels = found.timeline
    assert [level.phase for level in levels] == ["setup", "forward", "backward"]
    assert levels[0].start_bytes == 0
    for level in levels:
        assert max(level.start_bytes, level.end_bytes) <= level.peak_bytes
    for before, after in pairwise(levels):
        assert before.end_bytes == after.start_bytes
    assert max(level.peak_bytes for level in levels) == found.peak_bytes
    (moment,) = [one for one in levels if (one.phase, one.step) == (found.phase, found.step)]
    assert moment.peak_bytes == found.peak_bytes


def test_a_small_batch_peaks_in_the_optimizer_and_a_large_one_in_the_backward_pass():
    small, large = (break_down(build_trace(), size) for size in (1, 64))
    assert (small.phase, small.step) == ("optimizer", 1)
    assert small.bytes_by_category == {
        "optimizer_state": 128 * MIB,
        "gradient": 64 * MIB,
        "parameter": 64 * MIB,
        "temporary": 64 * MIB,
        "input": 4096,
    }
    assert (large.phase, large.step) == ("backward", 2)
    assert next(iter(large.bytes_by_category)) == "activation"
    assert large.bytes_by_category["activation"] == 64 * 8 * MIB


def test_the_timeline_has_a_level_for_every_phase_of_every_step():
    found = break_down(build_trace(), 2)
    assert [(level.phase, level.step) for level in found.timeline] == [
        ("setup", 0),
        *((phase, step) for step in (1, 2, 3) for phase in ("forward", "backward", "optimizer")),
    ]
    assert found.timeline[0].end_bytes == 64 * MIB + 2 * 4096


def test_repeated_layers_are_one_row_with_their_parts():
    layer = [TraceBlock(0, 100, "activation", 4), TraceBlock(0, 30, "activation", 3)]
    other = [TraceBlock(0, 100, "activation", 6), TraceBlock(7, 0, "temporary", -1)]
    trace = MemoryTrace(
        operators="cpu",
        method="symbolic",
        traced_sizes=(3, 5),
        blocks=(*layer, *other),
        events=(0, 1, 2, 3),
        phases=(PhaseMark("setup", 0, 0), PhaseMark("forward", 1, 0)),
        modules=NAMES,
    )
    layers, outside = break_down(trace, 10).modules
    assert (layers.name, layers.count, layers.size_bytes) == ("layers.*", 2, 2300)
    assert [(p.name, p.count, p.size_bytes) for p in layers.parts] == [
        ("layers.*.a", 2, 2000),
        ("layers.*", 2, 300),
    ]
    assert (outside.name, outside.size_bytes) == (None, 7)


def test_a_trace_of_one_size_says_nothing_about_another():
    trace = build_trace(method="per_size", size=3)
    assert break_down(trace, 3).micro_batch_size == 3
    with pytest.raises(ValueError, match="holds for 3 samples, not for 4"):
        break_down(trace, 4)
