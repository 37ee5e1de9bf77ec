"""A real session: blocks with their spans, the canary around them, the counters over them."""

import itertools

import pytest

from advisor.device.data import DeviceFacts
from advisor.throughput.data import ThroughputTask
from advisor.training.data import WorkloadSpec
from tests.integration.probe_command import ROOT

pytestmark = pytest.mark.slow

SIZES = (4, 64)
ROUNDS = 3
CPU = DeviceFacts(kind="cpu", name="It", memory_bytes=1 << 30, available_bytes=1 << 30)


@pytest.fixture(scope="module")
def session(runner):
    """The probes of one session, and the telemetry over it."""
    path = str(ROOT / "tests" / "workloads" / "good" / "dropout.py")
    task = ThroughputTask(
        workload=WorkloadSpec(target=path, device="cpu"),
        micro_batch_sizes=SIZES,
        session=7,
        block_s=0.05,
        rounds=ROUNDS,
        budget_s=60.0,
    )
    with runner.watched(CPU, session=7) as read:
        probes = runner.run(task, timeout_s=120.0)
        return probes, read()


def test_every_block_has_its_span_its_steps_and_its_time(session):
    probes, _ = session
    assert [probe.micro_batch_size for probe in probes] == list(SIZES)
    for probe in probes:
        assert len(probe.step_times_s) == len(probe.block_spans_s) == ROUNDS
        assert sum(probe.block_steps) == probe.steps
        for seconds, (began, ended), steps in zip(
            probe.step_times_s, probe.block_spans_s, probe.block_steps, strict=True
        ):
            # The span is read just outside of the block that gives the time.
            assert seconds * steps <= ended - began
        assert probe.is_steady in {True, False}


def test_blocks_do_not_overlap_and_sizes_take_turns(session):
    probes, _ = session
    spans = sorted((span, p.micro_batch_size) for p in probes for span in p.block_spans_s)
    assert all(a[0][1] <= b[0][0] for a, b in itertools.pairwise(spans))
    for round_number in range(ROUNDS):
        turn = spans[len(SIZES) * round_number : len(SIZES) * (round_number + 1)]
        assert {size for _, size in turn} == set(SIZES)


def test_the_canary_sings_before_and_after_and_is_one_for_the_session(session):
    probes, _ = session
    (times,) = {probe.canary_times_s for probe in probes}
    assert len(times) == 2
    assert min(times) > 0.0
    assert {probe.canary_flops for probe in probes} == {2 * 512**3}


def test_the_counters_reach_around_every_block(session):
    probes, telemetry = session
    assert telemetry.session == 7
    for began, ended in (span for probe in probes for span in probe.block_spans_s):
        assert telemetry.at_s[0] <= began
        assert ended <= telemetry.at_s[-1]
    assert len(telemetry.foreign_cpu_fraction) == len(telemetry.at_s)
    missing = {counter.name: counter.missing_because for counter in telemetry.counters}
    assert missing["sm_clock"]
    assert telemetry.sm_clock_mhz == ()
