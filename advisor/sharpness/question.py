"""The sharpness of the loss, as the registry has it."""

from advisor.engine.question import Question
from advisor.sharpness.data import SHARPNESS
from advisor.sharpness.plan import SHARPNESS_TOPIC
from advisor.sharpness.stage import run_sharpness

QUESTION = Question(
    name="sharpness", keys=(SHARPNESS,), topics=(SHARPNESS_TOPIC,), run=run_sharpness
)
