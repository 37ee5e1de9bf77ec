"""What to train with: the race of pairs, its advice, and what that means beyond one batch."""

from advisor.advice.data import SCENARIO
from advisor.advice.plan import ADVICE, FRONTIER
from advisor.advice.schedules import SCHEDULE, SCHEDULES
from advisor.advice.tell import tell_advice, tell_batches, tell_plans
from advisor.engine.question import Question
from advisor.race.data import UNTRAINED
from advisor.race.plan import RACE
from advisor.race.stage import continue_race, run_race
from advisor.race.tell import brief_race
from advisor.rate.data import TRIALS
from advisor.rate.range_data import LR_RANGES

#: Told alone: the table stands above all others, the chart beside that of the throughput.
BATCHES = Question(name="batches", tell=tell_batches)
QUESTION = Question(
    name="trial",
    keys=(TRIALS, LR_RANGES, UNTRAINED),
    topics=(RACE, ADVICE),
    run=run_race,
    more=continue_race,
    tell=tell_advice,
    brief=lambda found: brief_race(found.of(RACE)),
    fails_alone=True,
)
PLANS = Question(
    name="plans", keys=(SCENARIO,), topics=(FRONTIER, SCHEDULE, SCHEDULES), tell=tell_plans
)
