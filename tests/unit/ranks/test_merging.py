"""What several ranks saw of one task becomes one result."""

import math

import numpy as np
import pytest
from msgspec.structs import replace

from advisor.memory.data import Probe
from advisor.memory.plan import merge_probes
from advisor.noise.plan import merge_shards
from advisor.rate.curves import average_ranks
from advisor.rate.data import Evaluation
from advisor.soak.plan import merge_ranks as merge_soaks
from advisor.throughput.plan import merge_ranks as merge_timed
from tests.unit.noise.drawn import draw_gradients, split
from tests.unit.samples import make_branches, make_soak

FIT = {"stage": "memory", "session": 0, "micro_batch_size": 8, "outcome": "fit"}


def fail(outcome, message):
    return Probe(**FIT | {"outcome": outcome, "message": message})


def test_the_peak_of_a_step_is_that_of_the_rank_that_takes_most():
    ranks = {
        1: [Probe(**FIT, forward_backward_peak_bytes=90, optimizer_peak_bytes=10)],
        0: [Probe(**FIT, forward_backward_peak_bytes=70, optimizer_peak_bytes=30, steps=3)],
        2: [],
    }
    (one,) = merge_probes(ranks)
    assert (one.forward_backward_peak_bytes, one.optimizer_peak_bytes) == (90, 30)
    assert one.peak_reserved_bytes is None
    assert one.steps == 3


def test_a_rank_out_of_memory_stands_before_one_that_failed_because_of_it():
    ranks = {
        0: [fail("error", "the connection was closed")],
        1: [Probe(**FIT)],
        2: [fail("oom", "no memory")],
    }
    (one,) = merge_probes(ranks)
    assert (one.outcome, one.message) == ("oom", "rank 2: no memory")


def test_each_rank_is_timed_alone_in_the_order_of_the_ranks():
    ranks = {rank: [Probe(**FIT, rank_step_times_s=(0.1 + rank,))] for rank in (2, 0, 1)}
    (one,) = merge_timed(ranks)
    assert one.rank_step_times_s == (0.1, 1.1, 2.1)
    (one,) = merge_timed(ranks | {1: [fail("oom", "no memory")]})
    assert one.outcome == "oom"


def test_a_soak_is_that_of_the_rank_which_ended_it_else_of_the_one_that_takes_most():
    calm, full = make_soak(8), make_soak(8, outcome="oom")
    large = replace(calm, training_peak_bytes=2 * calm.training_peak_bytes)
    assert merge_soaks({0: [calm], 1: [large], 2: []}) == [large]
    assert merge_soaks({0: [large], 1: [full]}) == [full]


def test_the_loss_of_all_ranks_is_the_mean_as_far_as_all_got():
    (one,) = make_branches(8, 1.0, (2.0, 1.0, 0.5), seeds=1, deviation=0.4)
    (other,) = make_branches(8, 1.0, (4.0, 3.0), seeds=1, deviation=0.4)
    (mean,) = average_ranks({1: [other], 0: [one], 2: []})
    assert mean.evaluations == (Evaluation(samples=0, loss=3.0), Evaluation(samples=100, loss=2.0))
    assert mean.deviation == pytest.approx(0.4 / math.sqrt(2.0))
    assert not mean.diverged
    assert average_ranks({0: [], 1: []}) == []


@pytest.mark.parametrize("metric", [None, np.linspace(0.5, 2.0, 20)])
def test_moments_of_shards_add_up_to_those_of_the_whole(metric):
    whole, shards = [], {0: [], 1: []}
    for step in (0, 50):
        gradients, _ = draw_gradients(256, seed=step)
        whole.append(split(gradients, [8] * 32, at_step=step, metric=metric))
        for rank, part in enumerate((slice(0, 7), slice(7, 20))):
            own = None if metric is None else metric[part]
            shards[rank].append(split(gradients[:, part], [8] * 32, at_step=step, metric=own))
    merged = merge_shards(shards)
    assert [each.at_step for each in merged] == [0, 50]
    for own, all_of_it in zip(merged, whole, strict=True):
        for mine, wanted in (
            (own.plain, all_of_it.plain),
            (own.preconditioned, all_of_it.preconditioned),
        ):
            if wanted is None:
                assert mine is None
                continue
            assert mine.group_sqnorms == pytest.approx(wanted.group_sqnorms)
            assert mine.group_dots == pytest.approx(wanted.group_dots)
            assert mine.total_sqnorm == pytest.approx(wanted.total_sqnorm)
