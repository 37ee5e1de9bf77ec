from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.predict.law import AffinePiece, MemoryLaw
from advisor.predict.memory_trace import MemoryTrace, PhaseMark, TraceBlock
from advisor.predict.pieces import derive_pieces, find_upper_envelope
from tests.unit.predict.sample_trace import add_up_phases

MARKS = ["forward", "backward", "optimizer"]


def build(blocks, events, phases=(PhaseMark("forward", 1, 0),), traced_sizes=(3, 5)) -> MemoryTrace:
    return MemoryTrace(
        operators="cpu",
        method="symbolic" if len(traced_sizes) > 1 else "per_size",
        traced_sizes=traced_sizes,
        blocks=tuple(TraceBlock(fixed, slope, "activation") for fixed, slope in blocks),
        events=tuple(events),
        phases=tuple(phases),
        modules=("",),
        notes=("A note.",),
    )


@st.composite
def traces(draw, lines) -> MemoryTrace:
    """Blocks in the order they are made, freed at random, with up to three steps of phases."""
    blocks = draw(st.lists(lines, max_size=14))
    events: list[int] = []
    live: list[int] = []
    for index in range(len(blocks)):
        events.append(index)
        live.append(index)
        for place in draw(st.lists(st.integers(0, 20), max_size=min(2, len(live)))):
            freed = live.pop(place % len(live))
            events.append(-1 - freed)
    cuts = sorted(draw(st.lists(st.integers(0, len(events)), max_size=9)))
    phases = [PhaseMark("setup", 0, 0)]
    phases += [PhaseMark(MARKS[i % 3], 1 + i // 3, cut) for i, cut in enumerate(cuts)]
    return build(blocks, events, phases)


GROWING = st.tuples(st.integers(0, 10**9), st.integers(0, 10**7))
ANY = st.tuples(st.integers(-3000, 3000), st.integers(-60, 60))


def evaluate_phases(prediction, size) -> tuple[int, int]:
    phases = prediction.forward_backward, prediction.optimizer
    return tuple(MemoryLaw(pieces).predict_bytes(size) for pieces in phases)


def check_at_every_size(trace: MemoryTrace) -> None:
    prediction = derive_pieces(trace)
    for size in (*range(1, 201), 5000, 10**6):
        phases = evaluate_phases(prediction, size)
        assert phases == add_up_phases(trace, size)
        assert prediction.law.predict_bytes(size) == max(phases)
    for pieces in (prediction.forward_backward, prediction.optimizer):
        slopes = [piece.bytes_per_sample for piece in pieces]
        assert slopes == sorted(set(slopes))


@given(traces(GROWING))
@settings(max_examples=60)
def test_the_pieces_are_exact_at_every_size(trace):
    check_at_every_size(trace)


@given(traces(ANY))
@settings(max_examples=100)
def test_the_pieces_are_exact_where_lines_cross_zero(trace):
    check_at_every_size(trace)


def test_a_block_that_appears_with_the_size_makes_two_pieces():
    trace = build([(-40, 10), (7, 1)], [0, 1])
    assert derive_pieces(trace).forward_backward == (AffinePiece(7, 1), AffinePiece(-33, 11))


def test_the_peak_moves_from_one_phase_to_the_other():
    trace = build(
        [(100, 0), (0, 10), (400, 0)],
        [0, 1, -2, 2],
        [PhaseMark("setup", 0, 0), PhaseMark("forward", 1, 1), PhaseMark("optimizer", 1, 3)],
    )
    prediction = derive_pieces(trace)
    assert prediction.forward_backward == (AffinePiece(100, 10),)
    assert prediction.optimizer == (AffinePiece(500, 0),)
    assert evaluate_phases(prediction, 40) == (500, 500)
    assert (prediction.operators, prediction.notes) == ("cpu", ("A note.",))
    assert prediction.unusable_bytes == 0


def test_a_trace_of_one_size_has_no_pieces():
    with pytest.raises(ValueError, match="one size only"):
        derive_pieces(build([(1, 0)], [0], traced_sizes=(3,)))


def test_a_trace_without_phases_predicts_nothing():
    prediction = derive_pieces(build([(5, 1)], [0], phases=()))
    assert evaluate_phases(prediction, 9) == (0, 0)


def test_no_line_remains_that_is_highest_only_below_one_sample():
    lines = [AffinePiece(10, 0), AffinePiece(9, 1), AffinePiece(0, 4), AffinePiece(-5, 4)]
    assert find_upper_envelope(lines) == (AffinePiece(9, 1), AffinePiece(0, 4))


def test_no_lines_have_no_envelope():
    assert find_upper_envelope([]) == ()


@given(
    st.lists(
        st.tuples(st.integers(-(10**15), 10**15), st.integers(0, 10**12)).map(
            lambda line: AffinePiece(*line)
        ),
        min_size=1,
        max_size=40,
    )
)
def test_the_envelope_is_the_largest_of_the_lines(lines):
    hull = find_upper_envelope(lines)
    for size in (1, 2, 3, 17, 1000, 10**6):
        heights = [line.fixed_bytes + line.bytes_per_sample * size for line in hull]
        assert max(heights) == max(
            line.fixed_bytes + line.bytes_per_sample * size for line in lines
        )
