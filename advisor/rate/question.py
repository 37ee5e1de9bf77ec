"""The questions of the learning rate: in a run, and as `lr-range` alone asks it."""

from collections.abc import Callable

from advisor.engine.question import Kind, Question
from advisor.engine.run import Run
from advisor.rate.conclude import LEARNING_RATE, LR_RANGE
from advisor.rate.data import LR_RANGES, RANGE, TRIALS, Advised
from advisor.rate.range_plan import plan_range
from advisor.rate.range_stage import run_lr_range, run_ranged_rate
from advisor.rate.tell import head_lr_range, tell_lr_range
from advisor.rate.trial_stage import run_trial


def ask_rate(advise: Callable[[Run], Advised | None]) -> Question:
    """Return a run's question; rates are tried for what is advised by then."""

    def run_rate(run: Run) -> None:
        run_ranged_rate(run, lambda: advise(run))  # where there is no base rate to start from
        run_trial(run, lambda: advise(run))

    return Question(name="rate", keys=(TRIALS, LR_RANGES), run=run_rate)


QUESTION = Question(
    name="lr-range",
    keys=(RANGE, LR_RANGES, TRIALS),
    topics=(LR_RANGE, LEARNING_RATE),
    check=plan_range,
    run=run_lr_range,
    tell=tell_lr_range,
)
KIND = Kind(
    name="lr-range",
    noun="range test",
    command="lr-range",
    questions=(QUESTION,),
    headline=head_lr_range,
    is_worth_telling=lambda record, _: bool(record.all(LR_RANGES)),
)
