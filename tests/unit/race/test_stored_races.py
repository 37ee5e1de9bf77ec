"""What the advice must hold whatever is done to a run that was made (metamorphic).

Each was written by `bsadvisor probe MODEL --json` for an example or a task of the benchmark of the
advice in the user's loop; what the advice does not use was left out.
"""

import gzip
import itertools
from pathlib import Path

import msgspec
import pytest

from advisor.advice.plan import ADVICE
from advisor.engine.record import Conclusions
from advisor.questions import read_run
from advisor.race.plan import FRESH, RACE
from tests.unit.samples import conclude, make_noise

RACES = sorted((Path(__file__).parents[2] / "recordings" / "races").glob("*.json.gz"))
replace = msgspec.structs.replace


@pytest.fixture(scope="module", params=RACES, ids=lambda path: path.name.split(".")[0])
def record(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("races") / "run.json"
    path.write_bytes(gzip.decompress(request.param.read_bytes()))
    return read_run(path)


def advise(record):
    return Conclusions(record).of(ADVICE)


def pair_of(advice):
    return advice.global_batch_size, advice.learning_rate.value


def change_loop(record, change):
    """The record with each step of the loop changed: (session, size, seconds) to seconds."""
    timings = tuple(
        replace(
            timing,
            step_s=tuple(
                tuple(change(session, size, seconds) for seconds in rounds)
                for size, rounds in zip(timing.micro_batch_sizes, timing.step_s, strict=True)
            ),
        )
        for session, timing in enumerate(record.loop_timings)
    )
    return replace(record, loop_timings=timings)


def change_steps(record, change):
    """The record with each step on batches that are there changed: (probe, seconds) to seconds."""

    def changed(probe):
        fields = ("step_times_s", "low_step_times_s")
        times = {
            name: tuple(change(probe, seconds) for seconds in getattr(probe, name) or ())
            for name in fields
        }
        return replace(probe, **times)

    return replace(record, probes=tuple(map(changed, record.probes)))


def test_every_kind_of_answer_is_among_them():
    bases = []
    for path in RACES:
        run = msgspec.json.decode(gzip.decompress(path.read_bytes()))
        bases.append((run["command"]["limits"]["no_loader"], run["workload"]["has_scheduler"]))
    assert {True, False} == {no_loader for no_loader, _ in bases}
    assert {True, False} == {has_scheduler for _, has_scheduler in bases}


def test_more_seconds_of_loading_per_sample_never_raise_the_batch(record):
    base = record.workload.base_batch_size
    (step_s, *_) = record.loop_timings[0].step_s[0]
    loads = [0.0, *(step_s / base * 4.0**power for power in range(-4, 5))]
    advised = [
        advise(change_loop(record, lambda _, size, s, load=load: s + size * load)) for load in loads
    ]
    sizes = [each.global_batch_size for each in advised]
    assert all(after <= before for before, after in itertools.pairwise(sizes))
    if sizes[0] > base:
        assert sizes[-1] == base  # none of these saves samples


@pytest.mark.parametrize("factor", [1e-2, 30.0])
def test_the_unit_of_time_does_not_matter(record, factor):
    scaled = change_loop(record, lambda _, __, seconds: factor * seconds)
    scaled = change_steps(scaled, lambda _, seconds: factor * seconds)
    timings = tuple(
        replace(each, pass_s=tuple(factor * s for s in each.pass_s)) for each in scaled.loop_timings
    )
    before, after = advise(record), advise(replace(scaled, loop_timings=timings))
    assert pair_of(after) == pair_of(before)
    if before.expected.time_ratio is not None:
        points = [each.expected.time_ratio.point for each in (before, after)]
        assert points[0] == pytest.approx(points[1], rel=1e-3)


@pytest.mark.parametrize("session", range(2))
def test_one_session_slowed_by_a_half_costs_a_twentieth_at_most(record, session):
    def slow(probe, seconds):
        is_slow = probe.stage == "throughput" and probe.session == session
        return 1.5 * seconds if is_slow else seconds

    slowed = change_loop(
        change_steps(record, slow), lambda each, _, s: 1.5 * s if each == session else s
    )
    race, ratios = Conclusions(record).of(RACE), []
    for each in (record, slowed):
        found = race.find(pair_of(advise(each)))
        ratios.append(1.0 if found is None else found.time_ratio.point)
    assert ratios[1] <= 1.05 * ratios[0]


def test_a_pair_that_new_starts_did_not_reach_is_never_advised(record):
    winner = Conclusions(record).of(RACE).winner
    if winner is None:
        assert advise(record).basis == "stay"
        return
    pair = (winner.global_batch_size, winner.learning_rate)
    kept = tuple(
        branch
        for branch in record.trials
        if (branch.global_batch_size, branch.learning_rate) != pair or branch.seed not in FRESH
    )
    assert pair_of(advise(replace(record, trials=kept))) != pair


def test_without_trials_the_own_batch_stays_whatever_the_noise(record):
    own = (record.workload.base_batch_size, record.workload.optimizer.learning_rate)
    for noise in (None, make_noise(1e5, 9e4, 2e5), make_noise(2.0, 1.0, 4.0)):
        advice = conclude(replace(record, trials=()), noise=noise).of(ADVICE)
        assert (advice.basis, *pair_of(advice)) == ("untried", *own)


def test_noise_alone_makes_no_pair_the_advice_that_was_not_trained(record):
    trained = {(branch.global_batch_size, branch.learning_rate) for branch in record.trials}
    for noise in (None, make_noise(1e5, 9e4, 2e5), make_noise(2.0, 1.0, 4.0)):
        assert pair_of(conclude(record, noise=noise).of(ADVICE)) in trained


def test_the_printed_ratio_is_the_measured_one(record):
    winner, ratio = Conclusions(record).of(RACE).winner, advise(record).expected.time_ratio
    assert ratio == (None if winner is None else winner.time_ratio)
