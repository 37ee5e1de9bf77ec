"""What do several ranks cost and gain?"""

from advisor.engine.question import Question
from advisor.ranks.data import RANK_PROBES
from advisor.ranks.plan import RANKS
from advisor.ranks.stage import run_ranks
from advisor.ranks.tell import tell_ranks

QUESTION = Question(
    name="ranks",
    keys=(RANK_PROBES,),
    topics=(RANKS,),
    run=run_ranks,
    tell=tell_ranks,
    fails_alone=True,
)
