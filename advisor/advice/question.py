"""What to train with, as questions: the advice itself, and what it means beyond one batch."""

from advisor.advice.data import SCENARIO
from advisor.advice.plan import ADVICE, FRONTIER, SCHEDULE, SCHEDULES
from advisor.advice.tell import tell_advice, tell_plans
from advisor.engine.question import Question

QUESTION = Question(name="advice", topics=(ADVICE,), tell=tell_advice)
PLANS = Question(
    name="plans", keys=(SCENARIO,), topics=(FRONTIER, SCHEDULE, SCHEDULES), tell=tell_plans
)
