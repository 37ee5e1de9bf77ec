import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from advisor.advice.plan import ADVICE, list_ways
from advisor.engine.runner import WorkerTimeoutError
from advisor.engine.spec import Limits, Spec
from advisor.rate.data import Evaluation, TrialBranch
from advisor.rate.trial_stage import run_trial
from advisor.training.data import WorkloadSpec
from tests.given import open_run
from tests.unit.doubles import Notes
from tests.unit.samples import FACTS, FIXED_S, PER_SAMPLE_S, derive, make_probes, make_record


class Clock:
    """Stands still while nothing is trained."""

    now_s = 0.0


class Training:
    """Trains pairs by a law: a step at the best rate of batch B makes 1/(1 + φ/B) of a step.

    At x times the best rate it makes x·(2 − x) of that, and from 2 on the loss rises.
    """

    def __init__(
        self, *, noise_scale=200.0, best_rate=1.0, at_batch=32, error_after=math.inf, clock=None
    ):
        self.noise_scale = noise_scale
        self.best_rate, self.at_batch = best_rate, at_batch
        self.error_after = error_after
        self.confirming_starts = 3
        self.clock = clock
        self.rate = None  # of the task that runs
        self.tasks = []

    def find_best_rate(self, size):
        scaled = (self.noise_scale + self.at_batch) / (self.noise_scale + size)
        return self.best_rate * size / self.at_batch * scaled

    def find_edge(self, start, size):
        """The rate from which a start diverges although the law has it train."""
        return math.inf

    def count_steps(self, size):
        """Steps to a loss at the best rate, in a unit that all batches share."""
        return 1.0 + self.noise_scale / size

    def run(self, task, *, timeout_s, on_result):
        self.tasks.append(task)
        if len(self.tasks) > self.error_after:
            raise WorkerTimeoutError("too slow")
        size = task.micro_batch_size * task.gradient_accumulation_steps
        share = task.learning_rate / self.find_best_rate(size)
        pace = share * (2.0 - share) / self.count_steps(size)
        self.rate = task.learning_rate
        steps = task.samples // size
        seeds = task.seeds if 0 in task.seeds else task.seeds[: self.confirming_starts]
        if self.clock is not None:
            self.clock.now_s += 1.2 * len(seeds) * steps * (FIXED_S + PER_SAMPLE_S * size)
        every = max(1, steps // task.evaluations)
        for seed in seeds:
            trains = pace > 0 and task.learning_rate < self.find_edge(seed, size)
            points = [(0, 2.0)] + [
                (step * size, 2.0 * math.exp(-min(0.5 * pace * step, 50.0)) if trains else 9.0)
                for step in range(1, steps + 1)
                if step % every == 0 or step == steps
            ]
            on_result(
                TrialBranch(
                    micro_batch_size=task.micro_batch_size,
                    gradient_accumulation_steps=task.gradient_accumulation_steps,
                    global_batch_size=size,
                    learning_rate=task.learning_rate,
                    seed=seed,
                    samples=task.samples,
                    evaluations=tuple(Evaluation(samples=n, loss=loss) for n, loss in points),
                    diverged=False,
                    beta2=task.beta2,
                    weight_decay=task.weight_decay,
                )
            )
        return ()


def try_pairs(training, *, facts=FACTS, budget_s=1000.0, noise_steps=100, given=None):
    notes = Notes()
    limits = Limits(budget_s=budget_s, noise_steps=noise_steps, global_batch_size=given)
    spec = Spec(workload=WorkloadSpec(target="model.py"), limits=limits)
    run = open_run(spec, runner=training, progress=notes, save=lambda record: None)
    run.record = make_record(facts, probes=make_probes(), global_batch_size=given)
    run_trial(run, lambda: list_ways(run.of(ADVICE)))
    return derive(run.record).recommendation, notes.notes


def time_to_train(training, size, rate):
    share = rate / training.find_best_rate(size)
    if not 0.0 < share < 2.0:
        return math.inf
    steps = training.count_steps(size) / (share * (2.0 - share))
    return steps * (FIXED_S + PER_SAMPLE_S * size)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(noise_scale=st.floats(20.0, 5000.0), base_share=st.floats(0.3, 1.0))
def test_the_advised_pair_is_near_the_best_of_all_whatever_the_noise(noise_scale, base_share):
    training = Training(noise_scale=noise_scale, best_rate=1.0 / base_share)
    advice, notes = try_pairs(training)
    assert notes == []
    best = min(
        time_to_train(training, each.global_batch_size, training.find_best_rate(size))
        for each in advice.candidates
        for size in [each.global_batch_size]
    )
    found = time_to_train(training, advice.global_batch_size, advice.learning_rate.value)
    # The grid of rates, the tolerance of both choices and the curve's own resolution.
    assert found <= 1.3 * best
    base_s = time_to_train(training, 32, FACTS.optimizer.learning_rate)
    assert advice.expected.trial_time_ratio == pytest.approx(found / base_s, rel=0.3)


def test_the_base_pair_runs_first_and_every_pair_from_the_same_starts():
    training = Training()
    advice, _ = try_pairs(training)
    first = training.tasks[0]
    assert (first.micro_batch_size, first.learning_rate) == (32, 1.0)
    assert first.samples == 100 * 32
    *compared, confirming = training.tasks
    assert {task.seeds for task in compared} == {(0, 1, 2)}
    assert len({task.evaluation_samples for task in training.tasks}) == 1
    assert len({task.evaluation_batch_size for task in training.tasks}) == 1
    pairs = [(task.micro_batch_size, task.learning_rate) for task in compared]
    assert len(set(pairs)) == len(pairs)
    assert confirming.seeds == (3, 4, 5)
    assert confirming.micro_batch_size == advice.global_batch_size
    assert confirming.learning_rate == advice.learning_rate.value
    assert "trained from 3 further starts" in advice.learning_rate.reason


def list_confirmed(training):
    return [task.learning_rate for task in training.tasks if task.seeds == (3, 4, 5)]


@pytest.mark.parametrize("seed", [1, 4])
def test_a_start_that_does_not_train_at_the_best_rate_lowers_the_advice(seed):
    whole, training = Training(noise_scale=2000.0), Training(noise_scale=2000.0)
    best, _ = try_pairs(whole)
    edge = 0.99 * best.learning_rate.value
    training.find_edge = lambda start, size: edge if size > 32 and start == seed else math.inf
    advice, notes = try_pairs(training)
    assert notes == []
    assert advice.learning_rate.value < edge
    assert "trained from 3 further starts" in advice.learning_rate.reason
    confirmed = list_confirmed(training)
    assert confirmed[-1] == advice.learning_rate.value
    assert len(set(confirmed)) == len(confirmed)
    assert len(confirmed) == 1 if seed == 1 else len(confirmed) > 1


def test_no_rate_above_one_that_failed_its_confirmation_takes_its_place():
    whole, training = Training(noise_scale=2000.0), Training(noise_scale=2000.0)
    best, _ = try_pairs(whole, given=256)
    refuted = best.learning_rate.value
    # That rate alone, as if chance had it that a higher one trains from the same start.
    training.find_edge = lambda start, size: 0.0 if start == 4 and training.rate == refuted else 1e9
    advice, _ = try_pairs(training, given=256)
    tried = {task.learning_rate for task in training.tasks if task.micro_batch_size > 32}
    assert max(tried) > refuted > advice.learning_rate.value
    assert "diverged from 1 of 3 further starts" in advice.learning_rate.reason


def test_where_no_larger_batch_is_confirmed_the_own_pair_stands():
    training = Training(noise_scale=2000.0)
    training.find_edge = lambda start, size: 0.0 if size > 32 and start == 4 else math.inf
    advice, notes = try_pairs(training)
    assert notes == []
    assert advice.global_batch_size == 32
    assert advice.learning_rate.value == 1.0


@pytest.mark.parametrize("given", [None, 512])
def test_a_given_batch_steps_down_until_a_rate_is_confirmed(given):
    training = Training(noise_scale=10_000.0)
    best, _ = try_pairs(Training(noise_scale=10_000.0), given=given)
    edge = 0.9 * best.learning_rate.value
    training.find_edge = lambda start, size: edge if size > 32 and start == 5 else math.inf
    advice, _ = try_pairs(training, given=given)
    assert advice.learning_rate.value < edge
    assert len(list_confirmed(training)) >= 2


def test_an_advised_pair_that_cannot_be_confirmed_in_time_stands_on_three_starts():
    whole = Training()
    try_pairs(whole)
    training = Training(error_after=len(whole.tasks) - 1)
    advice, notes = try_pairs(training)
    assert notes == ["trial: it took longer than the time left"]
    assert "further starts" not in advice.learning_rate.reason


def test_a_confirmation_that_was_cut_short_is_told():
    training = Training()
    training.confirming_starts = 1
    advice, notes = try_pairs(training)
    assert notes == ["trial: no time left to train the advised pair from further starts"]
    assert "trained from 1 further starts" in advice.learning_rate.reason


@pytest.mark.parametrize("budget_s", [3.0, 10.0, 30.0, 100.0, 300.0])
def test_while_there_is_time_for_two_pairs_what_wins_is_confirmed(monkeypatch, budget_s):
    clock = Clock()
    monkeypatch.setattr("advisor.rate.trial_stage.time.monotonic", lambda: clock.now_s)
    training = Training(clock=clock, noise_scale=1000.0)
    advice, notes = try_pairs(training, budget_s=budget_s, noise_steps=None)
    if len(training.tasks) > 2:
        assert notes == []
        is_own = advice.global_batch_size == 32
        assert is_own or "trained from 3 further starts" in advice.learning_rate.reason


def test_no_pair_is_trained_for_much_longer_than_the_best_took():
    training = Training()
    advice, _ = try_pairs(training)
    base, *others = training.tasks
    step_s = {each.global_batch_size: each.step_s for each in advice.candidates}
    base_s = base.samples / 32 * step_s[32]
    for task in others:
        size = task.micro_batch_size
        assert task.samples / size * step_s[size] <= 1.2 * base_s + 4 * step_s[size]


def test_where_larger_batches_do_not_train_the_own_pair_stands():
    training = Training()
    training.find_best_rate = lambda size: 1.0 if size == 32 else 1e-6
    advice, _ = try_pairs(training)
    assert advice.global_batch_size == 32
    assert advice.learning_rate.value == 1.0
    assert "failed at every rate tried" in advice.reasons[0]


def test_rates_above_a_base_that_is_far_too_low_are_compared_after_equal_samples():
    training = Training(noise_scale=1000.0, best_rate=20.0)
    advice, _ = try_pairs(training)
    planned = [task for task in training.tasks if task.micro_batch_size == advice.global_batch_size]
    assert len({task.samples for task in planned}) <= 2  # the first one tells
    share = advice.learning_rate.value / training.find_best_rate(advice.global_batch_size)
    assert 0.6 <= share <= 1.5
    assert any("base rate is probably too low" in each for each in advice.warnings)


@pytest.mark.parametrize("given", [16, 512])
def test_a_given_batch_gets_its_best_rate_however_slow_it_is(given):
    training = Training(noise_scale=10_000.0)
    advice, _ = try_pairs(training, given=given)
    assert advice.global_batch_size == given
    assert {task.micro_batch_size for task in training.tasks} == {32, given}
    assert advice.learning_rate.value == pytest.approx(training.find_best_rate(given), rel=0.45)
    # So long that the target comes into sight.
    assert advice.expected.trial_time_ratio == pytest.approx(
        time_to_train(training, given, advice.learning_rate.value)
        / time_to_train(training, 32, 1.0),
        rel=0.3,
    )


def test_where_the_own_pair_does_not_train_nothing_else_is_tried():
    training = Training(best_rate=0.1)
    advice, _ = try_pairs(training)
    assert len(training.tasks) == 1
    assert advice.learning_rate.value is None


@pytest.mark.parametrize("pairs", [0, 1])
def test_a_trial_that_runs_out_of_time_advises_no_rate_that_was_not_run(pairs):
    training = Training(error_after=pairs)
    advice, notes = try_pairs(training)
    assert advice.learning_rate.value is None
    assert notes == ["trial: it took longer than the time left"]


def test_a_trial_that_stops_after_the_first_batch_advises_that_one():
    whole = Training()
    try_pairs(whole)
    planned = whole.tasks[1].micro_batch_size
    count = next(i for i, task in enumerate(whole.tasks[1:]) if task.micro_batch_size != planned)
    training = Training(error_after=1 + count)
    advice, _ = try_pairs(training)
    assert advice.learning_rate.value is not None
    assert advice.global_batch_size in {planned, 32}


def test_the_first_pair_runs_whatever_a_sample_of_the_base_batch_took(monkeypatch):
    # Tiny models take most of a step for its start, so that samples of small batches are dear.
    times = iter(range(0, 10**6, 60))
    monkeypatch.setattr("advisor.rate.trial_stage.time.monotonic", lambda: float(next(times)))
    training = Training()
    advice, _ = try_pairs(training)
    assert len(training.tasks) >= 2
    assert advice.learning_rate.value is not None


def test_without_time_for_steps_worth_judging_nothing_is_run():
    training = Training()
    _, notes = try_pairs(training, budget_s=0.01, noise_steps=None)
    assert training.tasks == []
    assert notes in ([], ["trial: no time left to try the advised rate"])


def test_a_base_batch_that_cannot_be_split_ends_the_trial():
    facts = msgspec.structs.replace(FACTS, base_batch_size=4099, min_micro_batch_size=2)
    _, notes = try_pairs(Training(), facts=facts)
    assert notes == ["trial: batch 4099 does not fit and cannot be split"]
