"""How fast: the curve of throughput, and what holds it, told where the report has room for it."""

from advisor.engine.question import Question
from advisor.throughput.conclude import THROUGHPUT
from advisor.throughput.data import TELEMETRY
from advisor.throughput.stage import run_throughput, time_once_more
from advisor.throughput.tell import brief_throughput, tell_speed, tell_throughput

QUESTION = Question(
    name="throughput",
    keys=(TELEMETRY,),
    topics=(THROUGHPUT,),
    run=run_throughput,
    more=time_once_more,
    tell=tell_throughput,
    brief=brief_throughput,
)
#: What the sessions say beside the curve; nothing runs for it.
SPEED = Question(name="speed", tell=tell_speed)
