import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.advice.plan import ADVICE
from advisor.device.data import DeviceFacts, Environment
from advisor.engine.record import Conclusions
from advisor.training.data import Variant
from advisor.variants.data import VariantRecord
from advisor.variants.plan import find_unavailable
from tests.unit.samples import FACTS, make_record
from tests.unit.variants.measured_variants import (
    KNOWN,
    SIZES,
    compare,
    make_losses,
    make_probes,
    make_run,
)


def test_a_variant_is_compared_with_the_first_at_the_advised_batch_and_at_its_fastest():
    run = make_run(VariantRecord(precision="bf16", probes=make_probes(2.0, (16, 64, 256, 512))))
    first, second = compare(run)
    advised = Conclusions(run).of(ADVICE).micro_batch_size
    assert first.micro_batch_size == second.micro_batch_size == advised
    assert first.speed_ratio is first.best_speed_ratio is first.machine_speed_ratio is None
    assert second.speed_ratio.point == pytest.approx(2.0)
    assert second.speed_ratio.low < 2.0 < second.speed_ratio.high
    assert (first.best_micro_batch_size, second.best_micro_batch_size) == (256, 512)
    assert second.best_speed_ratio.point > 2.0
    assert (first.max_micro_batch_size, second.max_micro_batch_size) == (256, 512)
    assert second.machine_speed_ratio == pytest.approx(1.0)


def test_the_advice_is_that_of_the_first_alone():
    alone = make_record(KNOWN, probes=make_probes())
    beside = make_run(VariantRecord(precision="bf16", probes=make_probes(9.0, (16, 64))))
    assert Conclusions(beside).of(ADVICE) == Conclusions(alone).of(ADVICE)
    assert compare(alone) == ()


def test_one_session_gives_a_ratio_without_an_interval():
    run = make_run(VariantRecord(precision="bf16", probes=make_probes(2.0, sessions=1)))
    ratio = compare(run)[1].speed_ratio
    assert ratio.point == pytest.approx(2.0, rel=0.02)
    assert ratio.low is ratio.high is None


def test_a_size_that_the_variant_did_not_time_gives_no_ratio():
    run = make_run(VariantRecord(precision="bf16", probes=make_probes(2.0, sizes=(1, 2))))
    variant = compare(run)[1]
    assert variant.samples_per_s is variant.speed_ratio is None
    assert variant.best_speed_ratio is not None


def test_a_machine_that_changed_meanwhile_is_told():
    slower = make_probes(canary_s=0.0125)
    run = make_run(VariantRecord(precision="bf16", probes=slower))
    assert compare(run)[1].machine_speed_ratio == pytest.approx(0.8)


def test_tf32_changes_the_canary_so_that_it_tells_nothing():
    run = make_run(VariantRecord(precision="tf32", probes=make_probes(canary_s=0.001)))
    assert compare(run)[1].machine_speed_ratio is None


def test_graphs_are_counted_where_compiling_was_asked_for():
    compiled = make_probes(recompiles=2)
    run = make_run(
        VariantRecord(precision="fp32", compile=True, probes=compiled),
        VariantRecord(precision="bf16", compile=True, missing_because="it failed"),
    )
    first, second, third = compare(run)
    assert (first.graphs, second.graphs, third.graphs) == (None, 2 * len(SIZES) * 3, None)


def test_a_variant_that_failed_is_a_row_with_its_reason():
    run = make_run(VariantRecord(precision="bf16", missing_because="no such operator"))
    variant = compare(run)[1]
    assert variant.missing_because == "no such operator"
    assert variant.max_micro_batch_size is variant.best_samples_per_s is variant.loss is None


def test_losses_are_compared_seed_by_seed():
    ends = (0.50, 0.70, 0.90)
    run = make_run(
        VariantRecord(precision="bf16", losses=make_losses([end + 0.01 for end in ends])),
        losses=make_losses(ends),
    )
    first, second = (one.loss for one in compare(run))
    assert first.loss.point == pytest.approx(0.7)
    assert first.difference is None
    assert (second.steps, second.batch_size, second.seeds) == (100, 32, 3)
    assert second.difference.point == pytest.approx(0.01)
    assert second.difference.high - second.difference.low < 1e-9  # though the seeds differ by 0.4
    assert second.loss.high - second.loss.low > 0.4


def test_a_seed_that_diverged_or_is_missing_is_in_no_mean():
    run = make_run(
        VariantRecord(precision="fp16", losses=make_losses((0.6, None))),
        losses=make_losses((0.5, 0.5, 0.5)),
    )
    loss = compare(run)[1].loss
    assert (loss.seeds, loss.diverged) == (2, 1)
    assert (loss.difference.point, loss.difference.low) == (pytest.approx(0.1), None)


def test_where_every_seed_diverged_there_is_no_loss():
    run = make_run(
        VariantRecord(precision="fp16", losses=make_losses((None, None))),
        losses=make_losses((0.5, 0.5)),
    )
    loss = compare(run)[1].loss
    assert (loss.diverged, loss.loss.point, loss.difference) == (2, None, None)


@pytest.mark.slow
@given(
    speed=st.floats(0.1, 10.0),
    sessions=st.integers(2, 6),
    sizes=st.sets(st.sampled_from([1, 8, 16, 64, 256]), min_size=1),
)
def test_a_ratio_holds_the_truth_whatever_was_timed(speed, sessions, sizes):
    probes = make_probes(speed, tuple(sorted(sizes)), sessions)
    _, conclusion = compare(make_run(VariantRecord(precision="bf16", probes=probes)))
    if conclusion.micro_batch_size in sizes:
        ratio = conclusion.speed_ratio
        assert ratio.low <= speed <= ratio.high
    else:
        assert conclusion.speed_ratio is None


def environment(kind="cpu", peaks=None):
    return Environment(
        device=DeviceFacts(kind=kind, name="It", memory_bytes=1, available_bytes=1),
        torch="2.9",
        python="3.12",
        platform="Linux",
        cpu="CPU",
        cpu_threads=2,
        peak_flops=peaks or {},
    )


STEP_ONLY = msgspec.structs.replace(FACTS, is_step_only=True)


@pytest.mark.parametrize(
    ("variant", "where", "facts", "words"),
    [
        (Variant(precision="tf32"), environment(), FACTS, "It has no tf32"),
        (Variant(precision="tf32"), environment("cuda"), FACTS, None),
        (Variant(precision="tf32"), environment("cuda", {"fp32": 1.0}), FACTS, "data sheet"),
        (Variant(precision="tf32"), environment("cuda", {"tf32": 1.0}), FACTS, None),
        (Variant(precision="tf32"), environment("cuda"), STEP_ONLY, None),
        (Variant(precision="tf32", compile=True), environment("cuda"), STEP_ONLY, "make_step"),
        (Variant(precision="bf16"), environment(), STEP_ONLY, "make_step"),
        (Variant(precision="fp16", compile=True), environment(), FACTS, None),
    ],
)
def test_what_would_be_another_variant_under_its_name_is_not_run(variant, where, facts, words):
    reason = find_unavailable(variant, where, facts)
    assert (reason is None) if words is None else (words in reason)
