"""Whether training shows what was advised, as the registry has it; `verify` asks it of a run."""

from dataclasses import replace

from advisor.engine.question import Kind, Question
from advisor.verify.data import VERIFICATION
from advisor.verify.plan import VERIFICATION_TOPIC
from advisor.verify.tell import (
    brief_verification,
    draw_up_screen,
    head_verification,
    tell_verification,
)

QUESTION = Question(
    name="verification",
    keys=(VERIFICATION,),
    topics=(VERIFICATION_TOPIC,),
    tell=tell_verification,
    brief=brief_verification,
)
#: A run as `verify` shows it: by what the branches say, without what it rests on.
VERIFIED = Kind(
    name="run",
    noun="verified run",
    command="verify",
    questions=(replace(QUESTION, brief=None),),
    headline=head_verification,
    screen=draw_up_screen,
    is_worth_telling=lambda *_: True,
)
