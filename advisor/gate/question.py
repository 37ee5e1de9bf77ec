"""`baseline` and `check`: two kinds of record of one question."""

from advisor.engine.conclusions import Conclusions
from advisor.engine.question import Kind, Question
from advisor.gate.data import (
    GATES_STACK,
    IN_TURNS,
    KNOWN_SPREAD,
    NEW,
    OCCASIONS,
    OLD,
    OLD_NAME,
    POLICY,
)
from advisor.gate.plan import COMPARISON
from advisor.gate.stage import load_baseline, record_baseline, run_check
from advisor.gate.tell import draw_up_screen, head_comparison, tell_comparison
from advisor.gate.tell_baseline import head_baseline, tell_baseline

BASELINE = Kind(
    name="baseline",
    noun="baseline",
    command="baseline record",
    questions=(
        Question(name="baseline", keys=(OCCASIONS,), run=record_baseline, tell=tell_baseline),
    ),
    headline=head_baseline,
    is_worth_telling=lambda record, _: bool(record.all(OCCASIONS)),
    answers_in_rows=True,
)


CHECK = Kind(
    name="check",
    noun="check",
    command="check",
    questions=(
        Question(
            name="check",
            keys=(OLD, NEW, OLD_NAME, POLICY, GATES_STACK, IN_TURNS, KNOWN_SPREAD),
            topics=(COMPARISON,),
            check=load_baseline,
            run=run_check,
            tell=tell_comparison,
        ),
    ),
    headline=head_comparison,
    screen=draw_up_screen,
    is_worth_telling=lambda record, _: bool(
        (found := Conclusions(record).of(COMPARISON)) and found.verdicts
    ),
)
