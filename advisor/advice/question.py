"""What to train with: the advice and its trials, and what it means beyond one batch."""

from advisor.advice.data import SCENARIO
from advisor.advice.plan import ADVICE, FRONTIER, SCHEDULE, SCHEDULES, list_ways
from advisor.advice.tell import tell_advice, tell_batches, tell_plans
from advisor.engine.question import Question
from advisor.engine.run import Run
from advisor.rate.data import LR_RANGES, TRIALS
from advisor.rate.range_stage import run_ranged_rate
from advisor.rate.trial_stage import run_trial


def try_rates(run: Run) -> None:
    """Train at the rates that go with the advised batch and its neighbours.

    Without a base rate that a trial could start from, a range test comes first.
    """
    run_ranged_rate(run, lambda: list_ways(run.of(ADVICE)))
    run_trial(run, lambda: list_ways(run.of(ADVICE)))


#: Told alone: the table stands above all others, the chart beside that of the throughput.
BATCHES = Question(name="batches", tell=tell_batches)
QUESTION = Question(
    name="advice", keys=(TRIALS, LR_RANGES), topics=(ADVICE,), run=try_rates, tell=tell_advice
)
PLANS = Question(
    name="plans", keys=(SCENARIO,), topics=(FRONTIER, SCHEDULE, SCHEDULES), tell=tell_plans
)
