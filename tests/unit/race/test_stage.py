"""The race over trainings whose law is known."""

import math
import random
import statistics

import msgspec
import pytest

from advisor.advice.plan import ADVICE
from advisor.engine.budget import TIME_PLAN
from advisor.engine.ends import WorkerDeathError, WorkerTimeoutError
from advisor.loader.data import LOOP_TIMINGS
from advisor.race.data import UNTRAINED
from advisor.race.loop_time import LOOP_TIMES
from advisor.race.plan import FRESH, RACE, STARTS
from advisor.race.stage import continue_race
from advisor.race.trainer import Trainer
from advisor.race.ways import WAYS
from advisor.rate.range_data import LrRangeTask
from advisor.training.data import OptimizerFacts
from tests.unit.loader.timings import make_loop_timing
from tests.unit.race.law_training import LawTraining, race_pairs
from tests.unit.race.timed_training import Clock, TimedTraining
from tests.unit.rate.range_samples import UNTUNED, RangeRunner
from tests.unit.samples import ADAMW, FACTS, FIXED_S, PER_SAMPLE_S

SIZES = (16, 32, 64, 128, 256, 512, 1024)


def size_of(task):
    return task.micro_batch_size * task.gradient_accumulation_steps


def pair_of(task):
    return size_of(task), task.learning_rate


def draw_laws(count, seed=0):
    draw = random.Random(seed)
    return [
        LawTraining(
            noise_scale=math.exp(draw.uniform(math.log(20), math.log(3000))),
            best_rate=1.0 / draw.choice([1.0, 0.7, 0.25]),
            seed=index,
        )
        for index in range(count)
    ]


def judge(law, run):
    """The true time of the advised pair over the base pair's, and over that of the best of all."""
    advice = run.of(ADVICE)
    own = law.time_ratio(advice.global_batch_size, advice.learning_rate.value)
    return own, own / law.best_time_ratio(*SIZES)


@pytest.mark.slow
def test_what_is_advised_is_never_slower_and_near_the_best_of_all():
    regrets, printed = [], []
    for law in draw_laws(12):
        run, notes = race_pairs(law)
        own, regret = judge(law, run)
        assert own <= 1.05
        assert notes == []
        regrets.append(regret)
        winner = run.of(RACE).winner
        if winner is not None:
            printed.append(winner.time_ratio.point / own)
    assert statistics.median(regrets) <= 1.10
    assert max(regrets) <= 1.25
    assert 0.95 <= statistics.median(printed) <= 1.05
    assert max(printed) <= 1.15


@pytest.fixture(scope="module", params=range(3))
def raced(request):
    """A law, the run after its race."""
    law = draw_laws(3, seed=7)[request.param]
    return law, race_pairs(law)[0]


def test_the_base_pair_comes_first_from_the_starts_that_pick(raced):
    law, run = raced
    first = law.tasks[0]
    assert pair_of(first) == (32, 1.0)
    assert first.seeds == STARTS
    assert (first.beta2, first.weight_decay) == (None, None)
    assert len(run.record.trials) >= 3 * len(STARTS)


def test_every_pair_has_the_same_starts_and_new_ones_confirm(raced):
    law, run = raced
    confirming = set()
    for task in law.tasks:
        if task.seeds != STARTS:
            assert set(task.seeds) <= set(FRESH)
            confirming.add(pair_of(task))
    own = {branch.seed for branch in run.record.trials if pair_of(branch) == (32, 1.0)}
    for branch in run.record.trials:
        assert branch.seed in own
    winner = run.of(RACE).winner
    if winner is not None:
        assert winner.fresh_starts >= 3
        assert (winner.global_batch_size, winner.learning_rate) in confirming


def test_a_pair_takes_at_most_the_time_of_the_base_pair(raced):
    law, _ = raced

    def take(task):
        return (FIXED_S + PER_SAMPLE_S * size_of(task)) * task.samples / size_of(task)

    assert all(take(task) <= 1.05 * take(law.tasks[0]) for task in law.tasks)


def test_what_was_printed_is_what_fresh_starts_showed(raced):
    _, run = raced
    race, advice = run.of(RACE), run.of(ADVICE)
    if race.winner is None:
        assert advice.basis == "stay"
        return
    assert advice.expected.time_ratio == race.winner.time_ratio
    assert race.winner.time_ratio.low <= race.winner.time_ratio.point <= race.winner.time_ratio.high
    assert advice.learning_rate.value == race.winner.learning_rate


def test_a_pair_that_has_lost_is_not_trained_from_the_other_starts():
    run, _ = race_pairs(LawTraining(noise_scale=50.0))
    beaten = [pair for pair in run.of(RACE).pairs if 0 < pair.starts < len(STARTS)]
    assert beaten
    assert all(pair.standing in {"behind", "failed"} for pair in beaten)


def test_a_pair_that_diverged_is_refused_with_all_higher_rates_of_its_batch():
    law = LawTraining(noise_scale=400.0, best_rate=1.0)
    run, _ = race_pairs(law)
    order, failed = [], {}
    for task in law.tasks:
        size, rate = pair_of(task)
        assert rate < failed.get(size, math.inf)
        if law.pace(size, rate) <= 0.0:
            failed[size] = rate
        order.append((size, rate))
    assert failed
    standings = {(pair.global_batch_size, pair.learning_rate): pair for pair in run.of(RACE).pairs}
    for size, rate in failed.items():
        assert standings[size, rate].standing == "failed"
        assert "diverged" in standings[size, rate].reason


@pytest.mark.parametrize(
    ("law", "words"),
    [
        (LawTraining(best_rate=0.3), "diverged in"),
        (LawTraining(best_rate=1e20, floor=0.0, loss_deviation=0.0), "did not fall in"),
    ],
)
def test_a_base_pair_that_does_not_train_ends_the_race_with_a_warning_and_no_rate(law, words):
    run, _ = race_pairs(law)
    assert {pair_of(task) for task in law.tasks} == {(32, 1.0)}
    advice = run.of(ADVICE)
    assert (advice.basis, advice.global_batch_size) == ("stay", 32)
    assert advice.learning_rate.value is None
    assert words in advice.learning_rate.reason
    assert any("Check the base rate" in warning for warning in advice.warnings)


@pytest.mark.parametrize("given", [32, 256])
def test_a_given_batch_is_raced_at_its_rates_alone(given):
    law = LawTraining(noise_scale=1000.0, best_rate=4.0)
    run, _ = race_pairs(law, given=given)
    assert {size_of(task) for task in law.tasks} == {32, given}
    assert {pair_of(task) for task in law.tasks if size_of(task) == 32} >= {(32, 1.0)}
    if given != 32:
        assert {pair_of(task) for task in law.tasks if size_of(task) == 32} == {(32, 1.0)}
    advice = run.of(ADVICE)
    assert (advice.basis, advice.global_batch_size) == ("given", given)
    own = law.time_ratio(given, advice.learning_rate.value)
    assert own <= 1.15 * law.best_time_ratio(given)


class FailingTraining(LawTraining):
    """Fails at one task, the first after the branches of one start."""

    def __init__(self, error, at, **law):
        super().__init__(**law)
        self.error, self.at = error, at

    def run(self, task, *, timeout_s, on_result):
        is_last = len(self.tasks) + 1 == self.at
        kept = task.seeds[: self.at == 1] if is_last else task.seeds
        part = msgspec.structs.replace(task, seeds=kept)
        super().run(part, timeout_s=timeout_s, on_result=on_result)
        if is_last:
            raise self.error
        return ()


@pytest.mark.parametrize("at", [1, 2, 4])
@pytest.mark.parametrize(
    ("error", "words"),
    [
        (WorkerTimeoutError("it hangs"), "it hangs"),
        (WorkerDeathError("killed by signal 9", code=-9, next_step=""), "killed by signal 9"),
    ],
)
def test_what_was_trained_before_a_worker_ended_stands(error, words, at):
    law = FailingTraining(error, at, noise_scale=1000.0)
    run, notes = race_pairs(law)
    assert len(law.tasks) == at
    assert any(words in note for note in notes)
    assert [(end.stage, end.message) for end in run.record.failures] == [("trial", words)]
    trained = {pair_of(task) for task in law.tasks if task.seeds}
    assert {pair_of(branch) for branch in run.record.trials} == trained
    advice = run.of(ADVICE)
    assert (advice.basis, advice.global_batch_size) == ("stay", 32)
    assert advice.learning_rate.value == 1.0


def test_without_time_nothing_is_trained_and_a_note_says_how_much_it_takes():
    law = LawTraining()
    run, notes = race_pairs(law, budget_s=0.5)
    assert law.tasks == []
    assert "no time was left for 30 steps" in notes[0]
    assert notes[0].endswith(run.of(RACE).reason)
    assert not continue_race(run)
    assert len(notes) == 1
    assert run.of(ADVICE).basis == "untried"


class NoMemory(LawTraining):
    """Trains nothing: no batch fits."""

    def run(self, task, *, timeout_s, on_result):
        self.tasks.append(task)
        return ()


def test_why_the_own_pair_was_not_trained_is_told():
    run, _ = race_pairs(NoMemory())
    assert run.of(RACE).reason == "batch 32 ran out of memory when it was trained"
    own = msgspec.structs.replace(FACTS, base_batch_size=3000, dataset_size=4000)
    run, _ = race_pairs(LawTraining(), facts=msgspec.structs.replace(own, base_batch_size=3001))
    assert "3001 does not fit and cannot be split" in run.of(RACE).reason
    few = msgspec.structs.replace(own, dataset_size=2000)
    run, notes = race_pairs(LawTraining(), facts=few)
    assert not continue_race(run)
    assert len(notes) == len(set(notes))
    assert run.of(RACE).reason == "batch 3000 is more than the dataset has, 2,000 samples"
    run, _ = race_pairs(LawTraining(), budget_s=0.5)
    run.record = msgspec.structs.replace(run.record, probes=())
    run.set(UNTRAINED, None)
    assert "not timed" in run.of(RACE).reason


def test_a_race_that_needs_nearly_all_the_time_left_is_run(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    law = TimedTraining(clock, noise_scale=1500.0, best_rate=2.0)
    least_s = 30 * 22 * 1.3 * (FIXED_S + PER_SAMPLE_S * 32)
    run, _ = race_pairs(law, budget_s=1.5 * least_s)
    assert run.of(RACE).does_base_train
    assert run.of(RACE).base_steps * run.of(RACE).base.global_batch_size >= 0.7 * 30 * 32


def test_workers_that_start_slowly_leave_less_for_steps_and_are_counted_where_none_is_left():
    def plan(start_s, time_s):
        run, _ = race_pairs(LawTraining(), budget_s=0.5)
        run.start_s = start_s
        return Trainer(run, run.of(RACE).base, run.of(WAYS), time_s)

    fast, slow = plan(0.0, 10.0), plan(1.0, 10.0)
    assert 0 < slow.base_steps < fast.base_steps
    assert plan(100.0, 10.0).is_too_short
    assert slow.least_s == pytest.approx(fast.least_s + 22 / 4)


@pytest.mark.parametrize("time_s", [3.0, 10.0, 30.0, 100.0, 1000.0])
def test_evaluations_keep_to_their_share_of_the_race(time_s):
    run, _ = race_pairs(LawTraining(), budget_s=0.5)
    trainer = Trainer(run, run.of(RACE).base, run.of(WAYS), time_s)
    task = trainer.make(32, 1.0, [1.0], (0,))
    assert (task.evaluations, task.evaluation_samples) >= (10, 64)
    if (task.evaluations, task.evaluation_samples) > (10, 64):
        size = task.evaluation_batch_size
        forward_s = run.of(LOOP_TIMES).estimate_bare_s(size) / size / 3.0
        assert 34 * task.evaluations * task.evaluation_samples * forward_s <= 0.2 * time_s


def test_a_slow_loader_takes_no_samples_from_evaluations():
    """They are loaded once: a loss on few samples may fall as that on all does not."""
    run, _ = race_pairs(LawTraining(), budget_s=0.5)

    def plan():
        trainer = Trainer(run, run.of(RACE).base, run.of(WAYS), 10.0)
        return trainer, trainer.make(32, 1.0, [1.0], (0,)).evaluation_samples

    _, samples = plan()
    rounds = [(10.0 * (FIXED_S + PER_SAMPLE_S * size),) * 8 for size in SIZES]
    run.add(LOOP_TIMINGS, make_loop_timing(SIZES, rounds, workers=2, fetch_s=1e-5))
    slow, slow_samples = plan()
    assert slow.base.step_s > 5.0 * run.of(LOOP_TIMES).estimate_bare_s(32)
    assert 64 < samples == pytest.approx(slow_samples, rel=0.1)


@pytest.mark.parametrize("budget_s", [None, 40.0])
def test_what_is_close_to_an_answer_may_take_more_where_no_budget_was_given(budget_s):
    run, _ = race_pairs(LawTraining(), budget_s=budget_s, more=False)
    trainer = Trainer(run, run.of(RACE).base, run.of(WAYS), 10.0)
    run.plan(0.01)
    before_s, most_s = run.budget_s, run.record.get(TIME_PLAN).needs_s["trial"]
    assert trainer.affords(5.0, 5.0, is_close=False)
    assert not trainer.affords(6.0, 5.0, is_close=False)
    assert run.budget_s == before_s
    granted = [trainer.affords(5.0 + 0.4 * most_s, 5.0, is_close=True) for _ in range(3)]
    assert granted == ([True, True, False] if budget_s is None else [False] * 3)
    more_s = (run.budget_s - before_s) * (1.0 - run.reserved_fraction)
    assert more_s == pytest.approx(0.0 if budget_s else 0.8 * most_s)
    assert run.record.get(TIME_PLAN).budget_s <= run.budget_s


@pytest.mark.parametrize("budget_s", [10.0, 30.0, 60.0, 120.0, 300.0])
def test_a_race_keeps_to_its_time_and_advises_nothing_slower_for_want_of_it(monkeypatch, budget_s):
    clock = Clock()
    monkeypatch.setattr("time.monotonic", clock)
    law = TimedTraining(clock, noise_scale=1500.0, best_rate=2.0, seed=3)
    run, _ = race_pairs(law, budget_s=budget_s)
    assert clock.now_s - 1000.0 <= 1.1 * budget_s
    own, regret = judge(law, run)
    assert own <= 1.05
    if budget_s >= 120.0:  # with time there is a winner
        assert regret <= 1.25


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"has_dataset": False}, "no make_dataset"),
        ({"is_step_only": True, "has_dataset": False, "optimizer": None}, "make_step"),
        ({"optimizer": OptimizerFacts(name="Rprop")}, "no learning rate"),
    ],
)
def test_without_what_a_trial_takes_there_is_no_race_and_a_reason(changes, words):
    law = LawTraining()
    run, _ = race_pairs(law, facts=msgspec.structs.replace(FACTS, **changes))
    assert law.tasks == []
    assert words in run.of(RACE).reason


def test_an_optimizer_without_a_rule_is_raced_and_never_accumulated():
    optimizer = OptimizerFacts(name="LBFGS", learning_rate=1.0, needs_closure=True)
    law = LawTraining(noise_scale=1000.0)
    run, _ = race_pairs(law, facts=msgspec.structs.replace(FACTS, optimizer=optimizer))
    assert {task.gradient_accumulation_steps for task in law.tasks} == {1}
    own, _ = judge(law, run)
    assert own <= 1.05


def test_a_base_batch_that_does_not_fit_is_accumulated():
    law = LawTraining(at_batch=2048, noise_scale=4000.0)
    run, _ = race_pairs(law, facts=msgspec.structs.replace(FACTS, base_batch_size=2048))
    first = law.tasks[0]
    assert (first.micro_batch_size, first.gradient_accumulation_steps) == (1024, 2)
    assert run.of(RACE).base.global_batch_size == 2048
    advice = run.of(ADVICE)
    own = law.time_ratio(advice.global_batch_size, advice.learning_rate.value, (2048, 1.0))
    assert own <= 1.05


def test_other_settings_go_with_the_pair_that_is_trained():
    optimizer = msgspec.structs.replace(ADAMW, learning_rate=1.0)
    law = LawTraining(noise_scale=1000.0)
    run, _ = race_pairs(law, facts=msgspec.structs.replace(FACTS, optimizer=optimizer))
    for task in law.tasks:
        size, rate = pair_of(task)
        if (size, rate) == (32, 1.0):
            assert (task.beta2, task.weight_decay) == (None, None)
        elif size != 32:
            assert task.beta2 == pytest.approx(max(0.9, 0.999 ** (size / 32)))
        if task.weight_decay is not None:
            assert task.weight_decay == pytest.approx(0.01 * size / 32 / rate)
    advice = run.of(ADVICE)
    trained = {(pair_of(b), b.beta2, b.weight_decay) for b in run.record.trials}
    pair = (advice.global_batch_size, advice.learning_rate.value)
    changes = advice.optimizer_changes
    assert (pair, changes.beta2, changes.weight_decay) in trained


def test_without_a_base_pair_the_range_test_finds_one_that_the_race_begins_with():
    runner = RangeRunner()
    run, _ = race_pairs(runner, facts=UNTUNED)
    kinds = [isinstance(task, LrRangeTask) for task in runner.tasks]
    assert kinds[0]
    assert not any(kinds[1:])
    race = run.of(RACE)
    assert not race.base.is_own
    first = next(task for task in runner.tasks[1:] if task.seeds == STARTS)
    assert pair_of(first) == (race.base.global_batch_size, race.base.learning_rate)
