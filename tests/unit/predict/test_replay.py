from __future__ import annotations

import msgspec
import pytest

from advisor.predict.allocator import MIB
from advisor.predict.buffers import Card, EmbeddingGradient, Reduction
from advisor.predict.data import MOST_SAMPLES
from advisor.predict.footprint import Footprint, predict_on_card
from advisor.predict.law import MemoryLaw
from advisor.predict.memory_trace import MemoryTrace, PhaseMark, TraceBlock
from advisor.predict.pieces import derive_pieces
from advisor.predict.replay import AllocatorSettings, draw_scratch, replay_allocator, size_blocks
from tests.unit.predict.sample_trace import add_up

NATIVE = AllocatorSettings()
EXPANDABLE = AllocatorSettings(expandable_segments=True)


def make_trace(**changes) -> MemoryTrace:
    """One step: 100 bytes of parameters, 10·B of activations, 100 of gradients, 200 of state."""
    defaults = {
        "operators": "cuda",
        "method": "symbolic",
        "traced_sizes": (3, 5),
        "blocks": (
            TraceBlock(100, 0, "parameter"),
            TraceBlock(0, 10, "activation"),
            TraceBlock(100, 0, "gradient"),
            TraceBlock(200, 0, "optimizer_state"),
            TraceBlock(50, 0, "temporary"),
        ),
        "events": (0, 1, 2, -2, 3, 4, -5, -3),
        "phases": (
            PhaseMark("setup", 0, 0),
            PhaseMark("forward", 1, 1),
            PhaseMark("backward", 1, 2),
            PhaseMark("optimizer", 1, 4),
        ),
        "modules": ("",),
    }
    return MemoryTrace(**(defaults | changes))


def make_wide_trace(fixed_mib: int, per_sample_bytes: int, count: int = 8) -> MemoryTrace:
    """Activations in `count` blocks, each of per_sample_bytes·B, then an equal gradient stream."""
    blocks = [TraceBlock(fixed_mib * MIB, 0, "parameter")]
    events = [0]
    for _ in range(count):
        blocks.append(TraceBlock(0, per_sample_bytes, "activation"))
        events.append(len(blocks) - 1)
    for index in range(count, 0, -1):
        blocks.append(TraceBlock(0, per_sample_bytes // 3, "temporary"))
        events += [len(blocks) - 1, -1 - index]
    return make_trace(
        blocks=tuple(blocks),
        events=tuple(events),
        phases=(
            PhaseMark("setup", 0, 0),
            PhaseMark("forward", 1, 1),
            PhaseMark("backward", 1, 1 + count),
            PhaseMark("optimizer", 1, len(events)),
        ),
    )


def predict_phases(trace: MemoryTrace, size: int) -> tuple[float, float]:
    found = derive_pieces(trace)
    phases = found.forward_backward, found.optimizer
    return tuple(MemoryLaw(pieces).predict_bytes(size) for pieces in phases)


def test_the_peaks_of_the_phases_are_those_of_the_sums():
    assert predict_phases(make_trace(), 1) == (210, 450)
    assert predict_phases(make_trace(), 100) == (1200, 450)
    assert derive_pieces(make_trace()).law.predict_bytes(100) == 1200


def test_a_phase_counts_what_is_held_as_it_begins():
    trace = make_trace(events=(0, 1, 2, -2, -3), phases=make_trace().phases)
    assert predict_phases(trace, 4)[1] == 200


def test_the_peaks_are_the_largest_over_all_steps():
    trace = make_trace(
        events=(0, 1, -2, 2, 3),
        phases=(
            PhaseMark("setup", 0, 0),
            PhaseMark("forward", 1, 1),
            PhaseMark("forward", 2, 3),
        ),
    )
    assert predict_phases(trace, 1)[0] == 400
    assert predict_phases(trace, 50)[0] == 600


def test_a_line_below_zero_is_an_empty_block():
    trace = make_trace(
        blocks=(TraceBlock(-40, 10, "activation"), TraceBlock(7, 0, "temporary")),
        events=(0, 1, -1),
        phases=(PhaseMark("forward", 1, 0),),
    )
    assert derive_pieces(trace).law.predict_bytes(3) == 7
    assert derive_pieces(trace).law.predict_bytes(6) == 27
    peaks = replay_allocator(trace, 3, settings=NATIVE, capacity_bytes=None)
    assert peaks.allocated_bytes == 512


def test_a_trace_of_one_size_is_refused_at_another():
    trace = make_trace(method="per_size", traced_sizes=(8,))
    assert replay_allocator(trace, 8, settings=NATIVE, capacity_bytes=None).fits
    with pytest.raises(ValueError, match="holds for 8 samples, not for 9"):
        size_blocks(trace, 9)
    with pytest.raises(ValueError, match="holds for 8 samples"):
        replay_allocator(trace, 9, settings=NATIVE, capacity_bytes=None)
    with pytest.raises(ValueError, match="no batch of 0"):
        size_blocks(make_trace(), 0)


def test_an_empty_trace_holds_nothing():
    trace = make_trace(blocks=(), events=(), phases=())
    assert derive_pieces(trace).law.predict_bytes(1) == 0
    assert replay_allocator(trace, 1, settings=NATIVE, capacity_bytes=0).fits


def test_the_allocator_sees_the_same_blocks_rounded():
    peaks = replay_allocator(make_trace(), 1000, settings=NATIVE, capacity_bytes=None)
    assert peaks.allocated_bytes == 512 + 10240 + 512
    assert (peaks.reserved_bytes, peaks.fits) == (2 * MIB, True)
    small = replay_allocator(make_trace(), 1, settings=NATIVE, capacity_bytes=None)
    assert small.allocated_bytes == 4 * 512


def test_the_workspace_is_held_from_the_first_forward_pass_on():
    settings = AllocatorSettings(workspace_bytes=6 * MIB)
    without = replay_allocator(make_trace(), 8, settings=NATIVE, capacity_bytes=None)
    peaks = replay_allocator(make_trace(), 8, settings=settings, capacity_bytes=None)
    assert peaks.allocated_bytes == without.allocated_bytes + 12 * MIB
    assert peaks.reserved_bytes == 14 * MIB


def test_a_setup_alone_does_not_hold_the_workspace():
    trace = make_trace(events=(0,), phases=(PhaseMark("setup", 0, 0),))
    settings = AllocatorSettings(workspace_bytes=6 * MIB)
    peaks = replay_allocator(trace, 1, settings=settings, capacity_bytes=None)
    assert (peaks.allocated_bytes, peaks.reserved_bytes) == (512, 2 * MIB)


def test_a_replay_that_does_not_fit_says_so_and_stops():
    trace = make_wide_trace(10, MIB)
    peaks = replay_allocator(trace, 20, settings=NATIVE, capacity_bytes=100 * MIB)
    assert not peaks.fits
    assert peaks.reserved_bytes == peaks.allocated_bytes == 90 * MIB


@pytest.mark.parametrize(
    "settings", [NATIVE, EXPANDABLE, AllocatorSettings(workspace_bytes=9 * MIB // 2)]
)
@pytest.mark.parametrize("capacity", [150 * MIB, 777 * MIB, 4096 * MIB])
@pytest.mark.parametrize("per_sample_bytes", [40_000, 1_234_567])
def test_the_largest_size_fits_and_the_next_does_not(settings, capacity, per_sample_bytes):
    trace = make_wide_trace(20, per_sample_bytes)
    largest = Footprint((trace,), settings).predict_largest(capacity_bytes=capacity)
    assert largest
    for size, fits in ((largest, True), (largest + 1, False)):
        peaks = replay_allocator(trace, size, settings=settings, capacity_bytes=capacity)
        assert peaks.fits is fits
    assert add_up(trace, largest)["all"] + settings.sum_workspaces(trace) <= capacity


def test_no_size_fits_where_the_parameters_do_not():
    trace = make_wide_trace(200, MIB)
    assert Footprint((trace,), NATIVE).predict_largest(capacity_bytes=100 * MIB) == 0


def test_the_allocator_can_refuse_what_the_sums_allow():
    trace = make_wide_trace(1, 2 * MIB, count=5)
    assert add_up(trace, 1)["all"] == 11 * MIB + 2 * MIB // 3
    assert Footprint((trace,), NATIVE).predict_largest(capacity_bytes=12 * MIB) == 0


def test_memory_that_does_not_grow_is_bounded_by_the_most_samples():
    trace = make_wide_trace(5, 0)
    assert Footprint((trace,), NATIVE).predict_largest(capacity_bytes=100 * MIB) == MOST_SAMPLES
    assert Footprint((trace,), NATIVE).predict_largest(capacity_bytes=4 * MIB) == 0


def test_no_search_takes_more_than_27_simulations(monkeypatch):
    from advisor.predict import footprint as module

    calls = []

    def count(*arguments, **options):
        calls.append(arguments[1])
        return replay_allocator(*arguments, **options)

    monkeypatch.setattr(module, "replay_allocator", count)
    for per_sample_bytes, capacity in ((120, 160 * MIB), (1000, 9000 * MIB), (MIB, 4096 * MIB)):
        calls.clear()
        trace = make_wide_trace(20, per_sample_bytes)
        Footprint((trace,), NATIVE).predict_largest(capacity_bytes=capacity)
        assert len(calls) <= 27
        assert len(calls) == len(set(calls))


def test_what_is_unusable_makes_the_sums_give_the_allocators_answer():
    trace, capacity = make_wide_trace(20, 1_234_567), 1000 * MIB
    for settings in (NATIVE, AllocatorSettings(workspace_bytes=9 * MIB // 2)):
        largest = Footprint((trace,), settings).predict_largest(capacity_bytes=capacity)
        assert largest
        prediction = predict_on_card(trace, capacity_bytes=capacity, settings=settings)
        usable = capacity - settings.sum_workspaces(trace) - prediction.unusable_bytes
        assert prediction.largest == largest
        assert prediction.unusable_bytes > 0
        assert add_up(trace, largest)["all"] <= usable
        assert add_up(trace, largest + 1)["all"] > usable


def test_nothing_is_unusable_where_the_next_size_is_beyond_the_capacity():
    trace = make_wide_trace(0, 32 * MIB, count=1)
    prediction = predict_on_card(trace, capacity_bytes=98 * MIB, settings=NATIVE)
    assert (prediction.largest, prediction.unusable_bytes) == (2, 0)


def test_the_first_size_that_does_not_fit_is_the_border(monkeypatch):
    """From 50 on the allocator has to give back its cache; 90 alone does not fit so."""
    real = replay_allocator

    def replay(trace, size, *, capacity_bytes, **given):
        peaks = real(trace, size, capacity_bytes=capacity_bytes, **given)
        if capacity_bytes is None and size >= 50:
            return msgspec.structs.replace(peaks, reserved_bytes=1000 * peaks.reserved_bytes)
        return msgspec.structs.replace(peaks, fits=size != 90)

    monkeypatch.setattr("advisor.predict.footprint.replay_allocator", replay)
    trace = make_wide_trace(20, 1_234_567)
    found = predict_on_card(trace, capacity_bytes=1000 * MIB, settings=NATIVE)
    assert found.largest == 89


def test_the_lines_of_workspaces_and_buffers_are_those_of_the_replay():
    blocks = (TraceBlock(100, 0, "parameter"), *(TraceBlock(0, 0, "temporary") for _ in range(2)))
    trace = make_trace(
        blocks=blocks,
        events=(0, 1, 2, -3),
        embeddings=(EmbeddingGradient(2, (0, 1000), 500, 8),),
        workspaces=(1,),
    )
    settings = AllocatorSettings(workspace_bytes=32 * MIB)
    law = derive_pieces(draw_scratch(trace, 100, settings)).law
    for size in (50, 75, 100):
        assert law.predict_bytes(size) == pytest.approx(peak(trace, size, settings)[0], abs=1024)


def test_workspaces_and_buffers_are_as_large_as_the_card_makes_them():
    """After the parameters, of which the trace knows where; a buffer takes 48 MiB on the card."""
    blocks = (TraceBlock(100, 0, "parameter"), *(TraceBlock(0, 0, "temporary") for _ in range(2)))
    trace = make_trace(
        blocks=blocks,
        events=(0, 1, 2, -3),
        reductions=(Reduction(2, (0, 64), (1536, 0)),),
        workspaces=(1,),
    )
    settings = AllocatorSettings(workspace_bytes=32 * MIB, card=Card(multiprocessors=132))
    assert peak(trace, 64, settings) == (512 + 80 * MIB, 82 * MIB)
    assert peak(trace, 64, AllocatorSettings(workspace_bytes=32 * MIB))[1] == 34 * MIB
    assert settings.sum_workspaces(trace) == 32 * MIB


def peak(trace, size, settings):
    peaks = replay_allocator(trace, size, settings=settings, capacity_bytes=None)
    return peaks.allocated_bytes, peaks.reserved_bytes


def test_where_not_one_sample_fits_the_sums_stand_as_they_are():
    trace = make_wide_trace(0, 32 * MIB, count=1)
    prediction = predict_on_card(trace, capacity_bytes=16 * MIB, settings=NATIVE)
    assert (prediction.largest, prediction.unusable_bytes) == (None, 0)
    assert prediction.predict_largest(16 * MIB) == 0
