"""Whether training shows what was advised, as the registry has it."""

from advisor.engine.question import Question
from advisor.verify.data import VERIFICATION
from advisor.verify.plan import VERIFICATION_TOPIC

QUESTION = Question(name="verification", keys=(VERIFICATION,), topics=(VERIFICATION_TOPIC,))
