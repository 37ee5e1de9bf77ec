import msgspec
import pytest

from advisor.device.catalogue import describe_stated_gpu, find_gpu
from advisor.predict.changes import add_8bit_state
from advisor.predict.data import WhatIf
from advisor.predict.prediction import predict_on
from advisor.training.data import OptimizerFacts
from tests.unit.predict.sample_trace import MIB, build_case, build_trace

GIB = 2**30

CARD = describe_stated_gpu(4 * GIB)
ADAMW = OptimizerFacts(name="AdamW", learning_rate=1e-3)
HALF = msgspec.structs.replace(
    build_trace(activation_bytes=4 * MIB), checkpointed=("layers.0", "layers.1")
)
WHAT_IFS = (
    WhatIf(change="checkpointing", trace=HALF),
    WhatIf(change="bf16", trace=build_trace(activation_bytes=6 * MIB)),
)


def compare(gpu=CARD, what_ifs=WHAT_IFS, **changed):
    case = build_case(what_ifs=what_ifs, optimizer=ADAMW, **changed)
    return predict_on(gpu, case).what_would_change


def test_what_it_is_compared_with_is_the_prediction_itself():
    case = build_case()
    prediction, found = predict_on(CARD, case), compare()
    assert found.max_micro_batch_size == prediction.max_micro_batch_size.point
    assert found.peak_bytes == prediction.allocated_bytes.point
    assert found.micro_batch_size == prediction.micro_batch_size


def test_half_the_activations_allow_nearly_twice_the_batch():
    found = compare()
    names = [one.name for one in found.savings]
    assert names[:2] == ["activation checkpointing", "bf16 autocast"]
    best = found.savings[0]
    assert 1.9 < best.max_micro_batch_size / found.max_micro_batch_size <= 2.01
    assert "model.layers" in best.how_to
    assert best.peak_bytes < 0.6 * found.peak_bytes


def test_8_bit_state_is_added_for_an_optimizer_that_has_it():
    names = [one.name for one in compare(what_ifs=WHAT_IFS[:1], micro_batch_size=1).savings]
    assert "8-bit optimizer state" in names
    other = build_case(what_ifs=WHAT_IFS[:1], optimizer=OptimizerFacts(name="Lion"))
    found = predict_on(CARD, other).what_would_change
    assert [one.name for one in found.savings] == ["activation checkpointing"]


def test_8_bit_state_starts_from_the_optimizer_of_one_tensor_at_a_time():
    single = build_trace(parameter_bytes=8 * MIB)
    (foreach_off, state) = add_8bit_state(
        (WhatIf(change="foreach_off", trace=single),), build_trace()
    )
    assert foreach_off.trace is single
    assert state.trace.blocks[0] == single.blocks[0]


def test_a_card_without_bf16_is_not_told_to_use_it():
    for name, has in (("T4", False), ("A100 80GB SXM", True)):
        found = compare(find_gpu(name), micro_batch_size=8)
        assert ("bf16 autocast" in [one.name for one in found.savings]) == has


def test_where_nothing_fits_the_smallest_size_is_compared():
    # 448 MiB of parameters, gradients and state do not fit; in 8 bits the state does.
    tiny = describe_stated_gpu(840 * MIB)
    found = compare(tiny)
    assert (found.max_micro_batch_size, found.micro_batch_size) == (0, 1)
    assert any(one.max_micro_batch_size > 0 for one in found.savings)


def test_without_what_ifs_or_a_trace_for_every_size_nothing_is_compared():
    assert compare(what_ifs=()) is None
    assert compare(traces=(build_trace(method="per_size"),)) is None


def test_what_holds_the_memory_is_told_at_the_predicted_size():
    prediction = predict_on(CARD, build_case())
    assert prediction.at_peak.micro_batch_size == prediction.micro_batch_size
    # The workspaces of libraries are no tensors of the trace.
    assert prediction.at_peak.peak_bytes <= prediction.allocated_bytes.point
    assert predict_on(describe_stated_gpu(512 * MIB), build_case()).at_peak is None


@pytest.mark.parametrize(("size", "has"), [(6, True), (7, False)])
def test_traces_of_one_size_tell_what_holds_the_memory_at_theirs(size, has):
    traces = tuple(build_trace(method="per_size", size=each) for each in (3, 6))
    case = build_case(traces=traces, micro_batch_size=size)
    assert (predict_on(CARD, case).at_peak is not None) == has
