"""Whether training shows what was advised, as the registry has it; `verify` asks it of a run."""

from advisor.engine.question import Question
from advisor.verify.data import VERIFICATION
from advisor.verify.plan import VERIFICATION_TOPIC
from advisor.verify.tell import tell_verification

QUESTION = Question(
    name="verification",
    keys=(VERIFICATION,),
    topics=(VERIFICATION_TOPIC,),
    tell=tell_verification,
)
