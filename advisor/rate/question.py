"""The range test as `lr-range` asks for it: the one question of its own record."""

from advisor.engine.question import Kind, Question
from advisor.engine.run import Run
from advisor.rate.conclude import LEARNING_RATE, LR_RANGE
from advisor.rate.data import TRIALS
from advisor.rate.range_data import LR_RANGES, RANGE, RangePlan
from advisor.rate.range_stage import resolve_plan, search_rate
from advisor.rate.tell import draw_up_screen, head_lr_range, tell_lr_range


def plan_range(run: Run) -> None:
    """Keep what is to be tested."""
    run.set(RANGE, resolve_plan(run.record.get(RANGE) or RangePlan(), run.facts))


QUESTION = Question(
    name="lr-range",
    keys=(RANGE, LR_RANGES, TRIALS),
    topics=(LR_RANGE, LEARNING_RATE),
    check=plan_range,
    run=lambda run: search_rate(run, run.record.get(RANGE) or RangePlan()),
    tell=tell_lr_range,
)
KIND = Kind(
    name="lr-range",
    noun="range test",
    command="lr-range",
    questions=(QUESTION,),
    headline=head_lr_range,
    screen=draw_up_screen,
    is_worth_telling=lambda record, _: bool(record.all(LR_RANGES)),
)
