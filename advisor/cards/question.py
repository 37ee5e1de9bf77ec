"""`predict` with a run: how to train on each card; without one, what fits on it."""

from advisor.cards.data import PRICES, TRAINING
from advisor.cards.plan import ANSWERS
from advisor.cards.reading import refuse_other_model, refuse_other_setting
from advisor.cards.tell import draw_up_screen, tell_answers, tell_headline
from advisor.engine.question import Kind, Question
from advisor.engine.run import Run
from advisor.predict.question import QUESTION as PREDICTION


def _read(run: Run) -> None:
    training = run.record.get(TRAINING)
    if training is not None:
        refuse_other_setting(training, run.spec)


def _check(run: Run) -> None:
    training = run.record.get(TRAINING)
    if training is not None:
        refuse_other_model(training, run.facts)


QUESTION = Question(
    name="cards",
    keys=(TRAINING, PRICES),
    topics=(ANSWERS,),
    read=_read,
    check=_check,
    tell=tell_answers,
)

KIND = Kind(
    name="prediction",
    noun="prediction",
    command="predict",
    questions=(PREDICTION, QUESTION),
    told=(QUESTION, PREDICTION),
    headline=tell_headline,
    screen=draw_up_screen,
    is_worth_telling=lambda *_: False,
    traces_only=True,
    is_flat=True,
    is_indented=False,  # a trace has some ten thousand numbers
)
