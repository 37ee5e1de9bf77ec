"""The memory of cards that are not here, as the registry has it."""

from advisor.engine.question import Kind, Question
from advisor.predict.data import CARDS, TRACED_CHANGES, TRACES
from advisor.predict.prediction import PREDICTIONS
from advisor.predict.stage import run_prediction
from advisor.predict.tell import tell_headline, tell_prediction

QUESTION = Question(
    name="prediction",
    keys=(CARDS, TRACES, TRACED_CHANGES),
    topics=(PREDICTIONS,),
    run=run_prediction,
    tell=tell_prediction,
)

KIND = Kind(
    name="prediction",
    noun="prediction",
    command="predict",
    questions=(QUESTION,),
    headline=tell_headline,
    is_worth_telling=lambda _: False,
    traces_only=True,
    is_flat=True,
    is_indented=False,  # a trace has some ten thousand numbers
)
