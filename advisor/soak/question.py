"""A longer run at the advised size, as the registry has it."""

from advisor.engine.question import Question
from advisor.soak.data import SOAKS
from advisor.soak.plan import SOAK
from advisor.soak.stage import run_soak

QUESTION = Question(name="soak", keys=(SOAKS,), topics=(SOAK,), run=run_soak)
