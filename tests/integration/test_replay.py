"""Recorded sessions through the real throughput stage and analysis; see tests/recordings/record.py.

No truth is known of a real machine. What all sizes and sessions of the undisturbed recording say
together stands for it.
"""

import contextlib
from pathlib import Path

import msgspec
import pytest

from advisor.engine.record import Conclusions
from advisor.engine.task import EnvironmentTask, InspectTask
from advisor.memory.data import PROBES
from advisor.questions import read_run
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.stage import run_throughput
from tests.given import open_run
from tests.recordings.record import DISTURBED, Silent, make_spec
from tests.replay import NotRecordedError, RecordingEndError, ReplayRunner

pytestmark = pytest.mark.slow

RECORDINGS = Path(__file__).resolve().parents[1] / "recordings"


def load(name):
    return read_run(RECORDINGS / f"{name}.json")


@pytest.fixture
def replay():
    """A function: a recording goes in, the run that the stage made of it comes out."""

    def start(record):
        runner = ReplayRunner(record)
        run = open_run(make_spec(), runner=runner, progress=Silent(), save=lambda _: None)
        (environment,) = runner.run(EnvironmentTask(), timeout_s=1.0)
        run.keep_environment(environment)
        (facts,) = runner.run(InspectTask(workload=run.spec.workload), timeout_s=1.0)
        run.keep_workload(facts)
        for probe in record.probes:
            if probe.stage == "memory":
                run.add(PROBES, probe)
        with contextlib.suppress(RecordingEndError):
            run_throughput(run)
        return run

    return start


def conclude(record):
    return Conclusions(record).of(THROUGHPUT)


def test_the_stage_runs_over_a_recording_and_measures_nothing(replay):
    plain = load("plain")
    replayed = replay(plain).record
    timed = [probe for probe in replayed.probes if probe.stage == "throughput"]
    assert len({probe.session for probe in timed}) >= 3
    assert set(timed) <= set(plain.probes)
    assert set(map(msgspec.json.encode, replayed.telemetry)) <= set(
        map(msgspec.json.encode, plain.telemetry)
    )


def test_sizes_near_the_answer_join_after_the_first_session(replay):
    record = replay(load("plain")).record
    first, last = (
        {
            probe.micro_batch_size
            for probe in record.probes
            if probe.stage == "throughput" and probe.session == session
        }
        for session in (0, 2)
    )
    assert last > first


@pytest.mark.parametrize("name", ["plain", *DISTURBED])
def test_a_disturbed_run_is_right_or_inconclusive(replay, name):
    truth = conclude(load("plain")).saturation
    assert truth.batch_size is not None
    found = conclude(replay(load(name)).record).saturation
    if found.status == "inconclusive":
        return
    assert found.status in {"saturated", "memory_limited", truth.status}
    assert found.low <= truth.batch_size
    assert found.high is None or found.high >= truth.low
    if found.batch_size is not None:
        assert truth.batch_size / 2 <= found.batch_size <= truth.batch_size * 2


def test_the_undisturbed_recording_has_an_answer(replay):
    assert conclude(replay(load("plain")).record).saturation.batch_size is not None


def test_blocks_held_down_by_heat_are_discarded_and_the_speed_stays_right(replay):
    hot, plain = conclude(load("throttled")), conclude(load("plain"))
    assert hot.discarded_blocks["thermal"] > 0
    assert conclude(replay(load("throttled")).record).discarded_blocks["thermal"] > 0
    for size in (512, 1024):
        speeds = [
            next(p for p in each.points if p.micro_batch_size == size).samples_per_s.point
            for each in (hot, plain)
        ]
        assert speeds[0] == pytest.approx(speeds[1], rel=0.1)


@pytest.mark.parametrize("name", ["plain", *DISTURBED])
def test_the_interval_holds_the_answer_and_ends_within_what_ran(name):
    saturation = conclude(load(name)).saturation
    assert saturation.status == "retrograde"
    assert 256 <= saturation.batch_size <= 512
    assert 100 <= saturation.low <= 256 <= (saturation.high or 1792) <= 1792


@pytest.mark.parametrize("name", ["plain", "throttled", "outliers"])
def test_a_fall_that_no_law_explains_is_told_with_where_to_stay(name):
    fall = conclude(load(name)).fall
    assert (fall.peak_micro_batch_size, fall.micro_batch_size) == (512, 1792)


@pytest.mark.parametrize("name", ["drift", "bimodal"])
def test_what_slows_whole_sessions_down_moves_no_answer(name):
    found, plain = (conclude(load(each)).saturation for each in (name, "plain"))
    assert (found.batch_size, found.low, found.high) == (plain.batch_size, plain.low, plain.high)
    assert found.last_gain.point == pytest.approx(plain.last_gain.point, abs=1e-3)


def test_two_speeds_widen_the_speed():
    plain, disturbed = conclude(load("plain")), conclude(load("bimodal"))
    widths = [
        sum(p.samples_per_s.high / p.samples_per_s.low for p in each.points)
        for each in (plain, disturbed)
    ]
    assert widths[1] > widths[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("drift", "the machine's speed differed between sessions"),
        ("bimodal", "two groups 13 % apart (4 fast, 4 slow): the machine has two speeds"),
        ("throttled", "heat held the clock down"),
        ("outliers", "timed blocks took over twice their session's median"),
        ("neighbour", "other processes took up to 45 %"),
    ],
)
def test_each_disturbance_is_named_and_only_where_it_is(replay, name, words):
    assert any(words in each for each in conclude(load(name)).disturbances)
    assert not any(words in each for each in conclude(load("plain")).disturbances)
    if name in {"throttled", "outliers"}:  # the others need more sessions than a replay runs
        assert any(words in each for each in conclude(replay(load(name)).record).disturbances)


@pytest.mark.parametrize("name", ["plain", "drift", "throttled", "outliers"])
def test_two_speeds_are_named_nowhere_else(name):
    assert not any("two groups" in each for each in conclude(load(name)).disturbances)


def test_the_fall_after_the_peak_has_its_figure():
    throughput = conclude(load("plain"))
    assert throughput.saturation.status == "retrograde"
    fall = throughput.fall
    speeds = {p.micro_batch_size: p.samples_per_s.point for p in throughput.points}
    measured = 1.0 - speeds[fall.micro_batch_size] / speeds[fall.peak_micro_batch_size]
    assert fall.micro_batch_size == max(speeds)
    assert 0.0 < fall.slower_fraction.low < measured < fall.slower_fraction.high


def test_a_size_that_no_session_timed_ends_the_stage_with_its_name(replay):
    plain = load("plain")
    kept = [p for p in plain.probes if p.stage == "memory" or p.micro_batch_size != 512]
    with pytest.raises(NotRecordedError, match="did not time batch 512"):
        replay(msgspec.structs.replace(plain, probes=tuple(kept)))


@pytest.mark.parametrize("name", ["plain", *DISTURBED])
def test_recordings_are_small(name):
    assert (RECORDINGS / f"{name}.json").stat().st_size < 200_000


@pytest.mark.parametrize("name", DISTURBED)
def test_a_disturbed_recording_is_the_plain_one_changed(name):
    plain = load("plain")
    again = msgspec.json.encode(DISTURBED[name](plain).telemetry)
    assert msgspec.json.encode(load(name).telemetry) == again
