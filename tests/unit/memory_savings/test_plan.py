from types import SimpleNamespace

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from advisor.memory_savings.question import compare_pieces, fit_capacity
from advisor.predict.breakdown import break_down
from advisor.predict.data import PredictedMemory, PredictedWhatIf
from advisor.predict.law import AffinePiece
from advisor.predict.pieces import derive_pieces
from tests.given import Derived, GivenConclusions
from tests.unit.predict.sample_trace import MIB, build_trace
from tests.unit.samples import FACTS, make_record

GIB = 2**30


def compare_compactly(largest, **limits):
    """Compare at batch 8 in a GiB, of which a run found the largest size."""
    what_ifs = (
        PredictedWhatIf(
            change="checkpointing",
            memory=derive_pieces(build_trace(activation_bytes=4 * MIB)),
            more_flops_fraction=0.3,
            how_to="line",
        ),
    )
    record = msgspec.structs.replace(
        make_record(replace(FACTS, dataset_size=None), **limits),
        what_ifs=what_ifs,
        predicted_memory=derive_pieces(build_trace()),
        peak=break_down(build_trace(), 8),
    )
    memory = SimpleNamespace(
        max_micro_batch_size=largest, capacity_bytes=GIB, smallest_failed=largest + 1
    )
    return compare_pieces(GivenConclusions(record, Derived(memory=memory)))


LARGEST = (GIB - 256 * MIB) // (8 * MIB + 4096)


def test_pieces_are_compared_like_traces():
    found = compare_compactly(LARGEST)
    (saving,) = found.savings
    assert found.max_micro_batch_size == LARGEST
    assert saving.max_micro_batch_size == (GIB - 256 * MIB) // (4 * MIB + 4096)
    assert saving.how_to == "line"
    assert saving.note.startswith("30 % more")


def test_caps_and_multiples_hold_for_the_savings_too():
    found = compare_compactly(LARGEST, max_micro_batch_size=110, batch_multiple=8)
    assert found.max_micro_batch_size == 88
    assert found.savings[0].max_micro_batch_size == 104


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
    found = memory.predict_largest(fitted - memory.unusable_bytes)
    assert largest <= found < largest + above
    real = memory.predict_largest(capacity - memory.unusable_bytes)
    if largest <= real < largest + above:
        assert fitted == capacity
