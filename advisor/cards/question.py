"""`predict` with a run: how to train on each card; without one, what fits on it."""

from advisor.cards.data import PRICES, TRAINING
from advisor.cards.plan import ANSWERS
from advisor.cards.reading import refuse_other_model, refuse_other_setting
from advisor.cards.tell import draw_up_screen, tell_answers, tell_headline
from advisor.engine.question import Kind, Question
from advisor.predict.question import QUESTION as PREDICTION

QUESTION = Question(
    name="cards",
    keys=(TRAINING, PRICES),
    topics=(ANSWERS,),
    read=lambda run: refuse_other_setting(run.record.get(TRAINING), run.spec),
    check=lambda run: refuse_other_model(run.record.get(TRAINING), run.facts),
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
