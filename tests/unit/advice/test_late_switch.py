"""A switch where trained curves cross: told where it saves in starts that did not choose it."""

import math

import msgspec
import numpy as np
import pytest

from advisor.advice.late_switch import conclude_late_switch
from advisor.advice.schedule_tell import list_schedules, write_table
from advisor.rate.data import Evaluation, TrialBranch
from tests.unit.samples import make_candidate

SMALL, LARGE = (16, 0.1), (64, 0.2)
STARTS = (0, 1, 2)
#: A sample takes as long at either batch.
WAYS = [make_candidate(16, 1, 16e-3), make_candidate(64, 1, 64e-3)]


def branch(pair, seed, samples, losses, **more):
    return TrialBranch(
        micro_batch_size=pair[0],
        gradient_accumulation_steps=1,
        global_batch_size=pair[0],
        learning_rate=pair[1],
        seed=seed,
        samples=int(samples[-1]),
        evaluations=tuple(
            Evaluation(samples=int(at), loss=float(loss))
            for at, loss in zip(samples, losses, strict=True)
        ),
        **{"diverged": False, **more},
    )


def curve(pair, floor, scale, *, starts=STARTS, noise=0.0, samples=6400, **more):
    """Branches whose loss falls to a floor on an exponential over so many samples."""
    at = np.linspace(0, samples, 25)
    draw = np.random.default_rng(7).normal
    return [
        branch(pair, seed, at, floor + 2.0 * np.exp(-at / scale) + draw(0.0, noise, 25), **more)
        for seed in starts
    ]


def crossing(**more):
    return {SMALL: curve(SMALL, 0.5, 600, **more), LARGE: curve(LARGE, 0.1, 2400, **more)}


def test_a_switch_is_told_where_a_small_batch_is_ahead_at_first():
    schedule = conclude_late_switch(crossing(), WAYS)
    first, second = schedule.items
    assert (first.global_batch_size, first.learning_rate) == SMALL
    assert (second.global_batch_size, second.learning_rate) == LARGE
    # The time of the small batch to the loss, then that of the large one from there on.
    level = 0.5 + 2.0 * math.exp(-second.from_samples / 600)
    its_own = 2400 * math.log(2.0 / (level - 0.1))
    saved = (its_own - second.from_samples) / 6400
    assert schedule.gain_fraction == pytest.approx(saved, rel=0.1)
    best = max(
        2400 * math.log(2.0 / (0.4 + 2.0 * math.exp(-at / 600))) - at for at in range(0, 6400, 10)
    )
    assert schedule.gain_fraction == pytest.approx(best / 6400, rel=0.1)


def test_it_is_told_as_a_table_with_what_it_was_seen_to_save():
    schedule = conclude_late_switch(crossing(noise=0.002), WAYS)
    rows = [row.text for row in list_schedules([schedule])]
    assert rows[0].startswith("advised: the trained curves of two batches cross; read from ")
    assert "starts that did not choose it, it took" in rows[0]
    near = schedule.gain_interval
    assert near.low < schedule.gain_fraction < near.high
    table = write_table(schedule.items)
    assert table == f"0:16 {schedule.items[1].from_samples}:64"
    assert rows[-1].startswith(f'as a table: "{table}", in passes of the size given: the loader')
    accumulated = tuple(
        msgspec.structs.replace(item, micro_batch_size=16) for item in schedule.items
    )
    schedule = msgspec.structs.replace(schedule, items=accumulated)
    *_, row = list_schedules([schedule])
    assert row.text == f'as a table: BatchSizeSchedule("{table}", ...)'


def test_curves_that_do_not_cross_have_no_switch():
    groups = {SMALL: curve(SMALL, 0.1, 600), LARGE: curve(LARGE, 0.1, 2400)}
    schedule = conclude_late_switch(groups, WAYS)
    assert schedule.items == ()
    assert "ahead all along" in schedule.reason


@pytest.mark.parametrize(("noise", "most"), [(0.02, 0), (0.05, 0), (0.1, 3)])
def test_noise_that_crosses_by_chance_is_hardly_ever_advised(noise, most):
    """The same curve three times: the figures of docs/method.md, section 9."""
    ways = [WAYS[0], make_candidate(32, 1, 32e-3), WAYS[1]]
    at, advised = np.linspace(0, 6400, 25), 0
    for seed in range(60):
        draw = np.random.default_rng(seed).normal
        losses = 0.3 + 2.0 * np.exp(-at / 1500)
        groups = {
            pair: [branch(pair, s, at, losses * np.exp(draw(0, noise, 25))) for s in STARTS]
            for pair in (SMALL, LARGE, (32, 0.15))
        }
        advised += bool(conclude_late_switch(groups, ways).items)
    assert advised <= most


@pytest.mark.parametrize(
    "groups",
    [
        {SMALL: curve(SMALL, 0.5, 600)},
        {SMALL: curve(SMALL, 0.5, 600), LARGE: curve(LARGE, 0.1, 2400, starts=(0, 1))},
        {SMALL: curve(SMALL, 0.5, 600), LARGE: curve(LARGE, 0.1, 2400, diverged=True)},
        {SMALL: curve(SMALL, 0.5, 600), LARGE: curve(LARGE, 0.1, 2400, decays_from=0)},
        {SMALL: curve(SMALL, 0.5, 600), (48, 0.2): curve((48, 0.2), 0.1, 2400)},
        {},
    ],
    ids=["one", "two starts", "diverged", "no level rate", "not timed", "none"],
)
def test_without_two_curves_at_a_level_rate_nothing_is_said(groups):
    assert conclude_late_switch(groups, WAYS) is None


def test_an_interval_saves_no_more_than_all_of_the_time():
    """Starts that hardly agree make it wide, but no time is below 0."""
    shapes = {
        SMALL: [(0.5, 100), (0.3, 4000), (0.2, 2000)],
        LARGE: [(0.3, 2000), (0.3, 9000), (0.1, 300)],
    }
    groups = {
        pair: [
            each
            for start, shape in zip(STARTS, starts, strict=True)
            for each in curve(pair, *shape, starts=(start,))
        ]
        for pair, starts in shapes.items()
    }
    schedule = conclude_late_switch(groups, WAYS)
    assert schedule.gain_interval.high == 1.0
    (row,) = [row for row in list_schedules([schedule]) if "took" in row.text]
    assert "-" not in row.text.partition("took")[2]
